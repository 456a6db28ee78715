"""A cache of latents that are encoded once, keyed by the tokenizer's hash and the recipe's data.

It is filled part by part, so that a run that was stopped goes on from its last one; and it says which files and
captions it was made from: where one of them has changed, it is made anew.

Beside the clips there may be a picture for each, of what it shows: a frame of another clip where the synthetic world
can make one, else any frame of its own. They are added to a cache that lacks them.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from vidgen.checkpoints.hashing import model_hash
from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ClipLabels, ShapeWorldConfig, describe, describe_unnamed, portray
from vidgen.data.shapes.walks import WALK, walk_actions
from vidgen.files.atomic import atomic_write
from vidgen.files.locks import exclusive
from vidgen.files.seals import save_sealed
from vidgen.models.dit.label_embedding import TEXT_TO_VIDEO
from vidgen.models.placement import device_of, dtype_of
from vidgen.samplers.conditioning.degradations import Degradation
from vidgen.samplers.conditioning.generation_tasks import RESTORATIONS, SHORTEST
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.config import DataConfig
from vidgen.train.config.aliases import FORMER_MAX_STRIDE
from vidgen.train.data.cache_files import fill_cache, is_fresh, list_sources, read_tensor
from vidgen.train.data.sources import Mixture, Sample, collate, edges_of, pick, rng_of

ENCODE_BATCH = 16
PICTURE_BATCH = 64
NEW_SOURCE_KEYS = {
    "fps": None,
    "max_stride": 0,
    "allow_damaged": False,
    "scenes": 1,
}  # which caches of earlier versions lack
TASK_SLOT = 2**31 + 2  # a third number beside step and slot: the generation task of a clip
PICTURE_SLOT = 2**31 + 1  # the slot, of no clip, whose random numbers draw pictures


class CachedClip(NamedTuple):
    """An item: a clip's latents and caption; latents of a picture of what it shows, what there is to say beside it, and
    what it shows in words (None and "" where there are no pictures); the generation task that it is drawn for ("" where
    there are none), and latents of what a loss has left of it, for a task of restoration; and of a story, whose last
    scene all this is about, captions of the scenes before. Of a walk, the action that leads into each frame."""

    latents: Float[Tensor, "c t h w"]
    caption: str
    picture: Float[Tensor, "c 1 h w"] | None = None
    beside: str = ""
    shows: str = ""
    task: str = ""
    degraded: Float[Tensor, "c t h w"] | None = None
    earlier: tuple[str, ...] = ()
    actions: Float[Tensor, "T two"] | None = None


def cache_key(
    tokenizer: VideoTokenizer, data: DataConfig, part: str, seed: int, count: int, indices: bool = False
) -> str:
    """Return a hash of all that the cached latents, or indices, depend on, but for what is in the files."""
    recipe = {
        **dataclasses.asdict(data),
        "workers": 0,
        "validation_clips": 0,
        "part": part,
        "seed": seed,
        "count": count,
        **({"indices": True} if indices else {}),
    }
    for source in recipe["sources"]:  # as before these keys were there
        for name in [name for name, value in NEW_SOURCE_KEYS.items() if name in source and source[name] == value]:
            del source[name]
        if source["kind"] == "shapes":
            source["max_stride"] = FORMER_MAX_STRIDE  # says nothing there
    return hashlib.sha256((model_hash(tokenizer) + json.dumps(recipe, sort_keys=True)).encode()).hexdigest()[:16]


def encode_clips(
    tokenizer: VideoTokenizer, mixture: Mixture, stop: int, start: int = 0, indices: bool = False
) -> tuple[Tensor, list[dict]]:
    """Return latents (n, c, t, h, w) in float16, or `indices` (n, t, h, w[, q]) in int32, of clips start .. stop - 1 of
    a mixture, with what their captions are made from."""
    latents, rows = [], []
    with torch.inference_mode():
        for first in tqdm(range(start, stop, ENCODE_BATCH), desc="encoding clips", unit="batch", disable=None):
            samples = [mixture[(0, i)] for i in range(first, min(first + ENCODE_BATCH, stop))]
            video = collate(samples)["video"].to(device_of(tokenizer), dtype_of(tokenizer))
            encoded = tokenizer.encode(video)
            kept = (encoded.indices, torch.int32) if indices else (encoded.latents, torch.float16)
            latents.append(kept[0].to("cpu", kept[1]))
            rows += [caption_row(sample) for sample in samples]
    return torch.cat(latents).contiguous(), rows  # convolutions leave them channels-last, which files do not know


def draw_picture(index: int, row: dict, mixture: Mixture, size: tuple[int, int]) -> Float[Tensor, "3 h w"]:
    """Draw a picture of what clip `index` shows, `row` being what its captions are made from."""
    rng = rng_of(mixture.seed, PICTURE_SLOT, index)
    if "labels" in row:
        world = ShapeWorldConfig(height=size[0], width=size[1])
        return to_tensor(portray(ClipLabels.from_dict(row["labels"]), rng, world).video)[:, 0]
    video = mixture[(0, index)].video
    return video[:, int(rng.integers(video.shape[1]))]


def encode_pictures(
    tokenizer: VideoTokenizer, mixture: Mixture, rows: Sequence[dict], size: tuple[int, int]
) -> Float[Tensor, "n c 1 h w"]:
    """Return latents (float16) of a picture for each clip of a mixture, coded as clips of one frame."""
    latents = []
    with torch.inference_mode():
        for first in tqdm(range(0, len(rows), PICTURE_BATCH), desc="encoding pictures", unit="batch", disable=None):
            numbers = range(first, min(first + PICTURE_BATCH, len(rows)))
            pictures = torch.stack([draw_picture(i, rows[i], mixture, size) for i in numbers])[:, :, None]
            encoded = tokenizer.encode(pictures.to(device_of(tokenizer), dtype_of(tokenizer)))
            latents.append(encoded.latents.to("cpu", torch.float16))
    return torch.cat(latents).contiguous()


def encode_degraded(
    tokenizer: VideoTokenizer, mixture: Mixture, count: int, degradation: Degradation
) -> Float[Tensor, "n c t h w"]:
    """Return latents (float16) of what a degradation has left of the clips of a mixture, as clips of their size."""
    latents = []
    with torch.inference_mode():
        for first in tqdm(range(0, count, ENCODE_BATCH), desc="encoding losses", unit="batch", disable=None):
            video = collate([mixture[(0, i)] for i in range(first, min(first + ENCODE_BATCH, count))])["video"]
            left = degradation.invert(degradation.apply(video)).clamp(-1.0, 1.0)
            encoded = tokenizer.encode(left.to(device_of(tokenizer), dtype_of(tokenizer)))
            latents.append(encoded.latents.to("cpu", torch.float16))
    return torch.cat(latents).contiguous()


def caption_row(sample: Sample) -> dict:
    """Return the labels, where the synthetic world gave them (a new wording at every visit), else the caption."""
    if sample.labels is None:
        return {"caption": sample.caption}
    earlier = {"earlier": [scene.to_dict() for scene in sample.earlier]} if sample.earlier else {}
    return {"labels": sample.labels.to_dict(), **earlier}


class LatentCache(Dataset):
    """Latents and captions, with `pictures` a picture for each, and with `tasks` (shares by name) a generation task and
    what it needs; item (step, slot) is a function of the seed, the step and the slot. With `indices` these take the
    place of latents.

    A clip that is too short for the task it drew is for text_to_video. Raises VidgenError where the cache file is
    damaged.
    """

    def __init__(
        self,
        tokenizer: VideoTokenizer,
        data: DataConfig,
        *,
        seed: int,
        count: int,
        part: str = "train",
        cache: str = "",
        pictures: bool = False,
        tasks: Mapping[str, float] | None = None,
        indices: bool = False,
    ) -> None:
        self.seed = seed
        self.unit = min(data.size)
        self.tasks = list(tasks or ())
        self.edges = edges_of(np.array(list((tasks or {}).values()), dtype=np.float64)) if tasks else None
        mixture = lru_cache(lambda: Mixture(data, seed, part))  # decodes the files, once they are needed
        folder: Path | None = None
        about: dict[str, str] = {}
        if cache:
            folder = Path(cache) / f"latents-{cache_key(tokenizer, data, part, seed, count, indices)}"
            sources = list_sources(data, part)
            if not folder.is_dir() or not is_fresh(folder, sources):
                if folder.is_dir():
                    warnings.warn(
                        f"{folder}: clips or captions have changed since: they are encoded anew", stacklevel=2
                    )
                with exclusive(folder, "cache of latents"):
                    fill_cache(
                        folder,
                        sources,
                        count,
                        lambda start, stop: encode_clips(tokenizer, mixture(), stop, start, indices),
                    )
            self.latents, self.rows, about = read_tensor(folder, "latents")
        else:
            self.latents, self.rows = encode_clips(tokenizer, mixture(), count, indices=indices)

        def beside(name: str, encode: Callable[[], Tensor]) -> Tensor:
            """Return what is cached beside the clips under a name, encoded where it is not there yet."""
            if folder is None:
                return encode()
            file = folder / f"{name}.safetensors"
            if not file.exists():
                with exclusive(folder, "cache of latents"), atomic_write(file) as target:
                    save_sealed({name: encode()}, target, about)
            return read_tensor(folder, name)[0]

        def draw_pictures() -> Tensor:
            return encode_pictures(tokenizer, mixture(), self.rows, tuple(data.size))

        def degrade(task: str) -> Callable[[], Tensor]:
            return lambda: encode_degraded(tokenizer, mixture(), len(self.rows), RESTORATIONS[task])

        self.pictures = beside("pictures", draw_pictures) if pictures else None
        self.degraded = {task: beside(task, degrade(task)) for task in self.tasks if task in RESTORATIONS}

    def __getitem__(self, key: tuple[int, int]) -> CachedClip:
        rng = rng_of(self.seed, *key)
        index = int(rng.integers(len(self.rows)))
        latents = self.latents[index]
        latents = latents.float() if latents.is_floating_point() else latents.long()
        if self.pictures is None:
            clip = CachedClip(latents, self.caption(index, rng))
        else:
            beside = self.beside(index, copy.deepcopy(rng))  # in the same wording
            caption = self.caption(index, rng)
            clip = CachedClip(latents, caption, self.pictures[index].float(), beside, self.shows(index))
        clip = clip._replace(earlier=self.earlier(index, rng), actions=self.actions(index))
        if self.edges is None:
            return clip
        task = self.tasks[pick(self.edges, rng_of(self.seed, *key, TASK_SLOT))]
        if latents.shape[1] < SHORTEST.get(task, 1):
            task = TEXT_TO_VIDEO
        degraded = self.degraded[task][index].float() if task in self.degraded else None
        return clip._replace(task=task, degraded=degraded)

    def caption(self, index: int, rng: np.random.Generator) -> str:
        """Return the caption of a clip, in a wording drawn from `rng` where there are several."""
        row = self.rows[index]
        return describe(ClipLabels.from_dict(row["labels"]), rng) if "labels" in row else row["caption"]

    def earlier(self, index: int, rng: np.random.Generator) -> tuple[str, ...]:
        """Return captions of the scenes of a story before the last."""
        return tuple(describe(ClipLabels.from_dict(scene), rng) for scene in self.rows[index].get("earlier", ()))

    def actions(self, index: int) -> Float[Tensor, "T two"] | None:
        """Return the action that leads into each frame of a walk; None for other clips."""
        things = self.rows[index].get("labels", {"objects": [{}]})["objects"]
        if things[0].get("motion") != WALK:
            return None
        return torch.from_numpy(walk_actions(np.array(things[0]["position"]), self.unit)).float()

    def beside(self, index: int, rng: np.random.Generator) -> str:
        """Return the caption without the words that a picture makes unnecessary, where it is known which these are."""
        row = self.rows[index]
        return describe_unnamed(ClipLabels.from_dict(row["labels"]), rng) if "labels" in row else row["caption"]

    def shows(self, index: int) -> str:
        """Return the picture in words: names of the world's objects, else the caption."""
        row = self.rows[index]
        if "labels" not in row:
            return row["caption"]
        return " and ".join(f"{item['colour']} {item['shape']}" for item in row["labels"]["objects"])
