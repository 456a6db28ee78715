"""What training draws from: the synthetic world and clips decoded once, mixed, the same at every run."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vidgen.data.frames import to_tensor
from vidgen.data.reading import probe_video, read_video
from vidgen.data.shapes import WORDS, ClipLabels, ShapeWorld, ShapeWorldConfig, describe, draw_story, render_story
from vidgen.data.shapes.imitations import ImitationWorld
from vidgen.data.shapes.walks import WalkWorld
from vidgen.errors import VideoError, VidgenError
from vidgen.train.config import DataConfig, SourceConfig
from vidgen.train.data.splits import source_records

WORLDS = {"shapes": ShapeWorld, "walks": WalkWorld, "imitations": ImitationWorld}
OWN_FRAMES_MAX_STRIDE = 4  # where frames are taken by number, whatever the rate, and a recipe says nothing else
VALIDATION_SEED_OFFSET = 0x5EED  # another stream than training's, whatever its seed
LENGTH_SLOT = 2**31  # the slot, of no clip, whose random number chooses the length of a step's clips


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One clip (3, T, H, W) in [-1, 1] with its caption ("" where there is none), and labels in the synthetic world.

    Of a story these are of its last scene; `earlier` are the labels of those before."""

    video: Float[Tensor, "3 t h w"]
    caption: str
    labels: ClipLabels | None = None
    earlier: tuple[ClipLabels, ...] = ()


def rng_of(*key: int) -> np.random.Generator:
    """Return a generator that is a function of the integers given, and of nothing else."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([k % 2**32 for k in key])))


class ShapeSource:
    """Clips of a synthetic world."""

    def __init__(self, source: SourceConfig, data: DataConfig, part: str) -> None:
        self.size = tuple(data.size)
        self.weights = source.weights if part == "train" else {}
        # The most that `weight` can be.
        self.most = math.prod(max(self.word_weight(kind, word) for word in words) for kind, words in WORDS.items())
        height, width = source.world_size or self.size
        self.scenes = source.scenes
        self.world = WORLDS[source.kind](
            ShapeWorldConfig(
                height=height,
                width=width,
                num_frames=1 + (data.num_frames - 1) // source.scenes,
                fps=round(data.fps),
                max_objects=source.max_objects,
                seed=source.seed,
                split="train" if part == "train" else "held_out",
            )
        )

    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw a clip."""
        index = self.draw(rng)
        if self.scenes > 1:
            *earlier, labels = draw_story(self.world.config, index, self.scenes)
            video, caption = render_story([*earlier, labels], self.world.config), describe(labels)
        else:
            clip, earlier = self.world[index], []
            video, caption, labels = clip.video, clip.caption, clip.labels
        if video.shape[1:3] != self.size:
            top, left = self.corner(labels, video.shape[1:3], rng)
            video = video[:, top : top + self.size[0], left : left + self.size[1]]
        return Sample(video=to_tensor(video), caption=caption, labels=labels, earlier=tuple(earlier))

    def draw(self, rng: np.random.Generator) -> int:
        """Draw the index of a clip, by rejection: it is kept with the probability weight / most that any clip has."""
        while True:
            index = int(rng.integers(2**40))
            if not self.weights:
                return index
            if rng.random() * self.most < self.weight(index):
                return index

    def weight(self, index: int) -> float:
        """Return how often this clip is drawn beside one without weighted words: the mean over its objects."""
        objects = self.world.sample_labels(index).objects
        weights = (math.prod(self.word_weight(kind, getattr(item, kind)) for kind in WORDS) for item in objects)
        return sum(weights) / len(objects)

    def word_weight(self, kind: str, word: str) -> float:
        """Return the weight of a word of a kind, 1 where the recipe has none."""
        return self.weights.get(f"{kind} {word}", self.weights.get(word, 1.0))

    def corner(self, labels: ClipLabels, world: tuple[int, int], rng: np.random.Generator) -> list[int]:
        """Return top and left of a crop that holds an object's center at some moment."""
        item = labels.objects[int(rng.integers(len(labels.objects)))]
        x, y = item.position[int(rng.integers(len(item.position)))]
        offsets = (int(rng.integers(n // 4, 3 * n // 4 + 1)) for n in self.size)
        limits = (m - n for m, n in zip(world, self.size, strict=True))
        return [int(np.clip(c - o, 0, m)) for c, o, m in zip((y, x), offsets, limits, strict=True)]


class ClipSource:
    """Clips from files, decoded once into memory at a short side of `short_side`: random windows, crops and flips.

    A file that cannot be decoded, or with fewer frames than asked for, is left out, counted and named in one warning.
    """

    def __init__(self, source: SourceConfig, data: DataConfig, part: str) -> None:
        self.data = data
        self.clips: list[np.ndarray] = []
        self.captions: list[str] = []
        self.fps = source.rate(data.fps)
        self.max_stride = source.max_stride or (1 if self.fps else OWN_FRAMES_MAX_STRIDE)
        self.side = max(source.short_side, *data.size)
        dropped = []
        for record in source_records(source, part):
            part = (record.start, record.duration)
            try:
                rates = (self.fps, record.fps)
                frames = decode_small(record.path, self.side, source.max_frames, part, *rates, source.allow_damaged)
                if self.fps and len(frames) == data.num_frames - 1 > 0:
                    # nine frames, eight a second, span a second: where a clip lasts no longer, its last one is held
                    frames = np.concatenate([frames, frames[-1:]])
                if len(frames) < data.num_frames:
                    rate = f" at {self.fps:g} fps" if self.fps else ""
                    raise VideoError(f"{len(frames)} frames{rate}, {data.num_frames} needed")
            except VideoError as error:
                dropped.append(f"{Path(record.path).name} ({error})")
                continue
            self.clips.append(frames)
            self.captions.append(record.caption or "")
        if dropped:
            warnings.warn(f"{source.path}: {len(dropped)} clips left out: {'; '.join(dropped)}", stacklevel=2)
        if not self.clips:
            raise VidgenError(
                f"{source.path} has no usable clip of {data.num_frames} frames: try `vidgen data inspect`"
            )

    def sample(self, rng: np.random.Generator) -> Sample:
        """Draw a window of a clip, a crop of it, and perhaps its mirror image."""
        number = int(rng.integers(len(self.clips)))
        frames, (height, width) = self.clips[number], self.data.size
        max_stride = (len(frames) - 1) // max(self.data.num_frames - 1, 1) or 1
        stride = int(rng.integers(1, 1 + min(self.max_stride, max_stride)))
        span = 1 + (self.data.num_frames - 1) * stride
        start = int(rng.integers(len(frames) - span + 1))
        # The crop's scale is log-uniform between the target size and the whole short side.
        scale = float(np.exp(rng.uniform(0.0, np.log(min(frames.shape[1] / height, frames.shape[2] / width)))))
        h, w = int(height * scale), int(width * scale)
        top, left = (int(rng.integers(n - m + 1)) for n, m in ((frames.shape[1], h), (frames.shape[2], w)))
        video = to_tensor(frames[start : start + span : stride, top : top + h, left : left + w])
        if (h, w) != (height, width):
            video = F.interpolate(video, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
        if rng.random() < 0.5 and not self.captions[number]:  # a flip could make a caption untrue
            video = video.flip(-1)
        return Sample(video=video.clamp(-1.0, 1.0), caption=self.captions[number])


@cache
def decode_small(
    path: str | Path,
    side: int,
    max_frames: int,
    part: tuple[float, float | None] = (0.0, None),
    fps: float | None = None,
    native_fps: float | None = None,
    allow_damaged: bool = False,
) -> np.ndarray:
    """Return the first `max_frames` frames of a part of a file, uint8 (T, H, W, 3), at a short side of `side`.

    part: start and duration in seconds; fps, native_fps: as of `read_video`, which picks frames by their time.
    VideoError for a file that is damaged there, unless that is allowed, which warns.
    """
    info = probe_video(path, native_fps or fps, allow_damaged=allow_damaged)
    ratio = side / min(info.height, info.width)
    size = (max(side, round(info.height * ratio)), max(side, round(info.width * ratio)))
    start, duration = part
    window = {"start": start, "duration": duration, "fps": fps, "native_fps": native_fps, "num_frames": max_frames}
    reading = {"short": "keep", "size": size, "fit": "stretch", "allow_damaged": allow_damaged}
    clip = read_video(path, **window, **reading)
    if clip.damage:
        warnings.warn(clip.error, stacklevel=2)
    return clip.frames


class Mixture(Dataset):
    """Samples of several sources by shares. Item (step, slot) is a function of the seed, the step and the slot.

    Where sources differ in clip length (images are clips of one frame), a step's batch is of one length, drawn by the
    shares; validation is of the longest.
    """

    def __init__(self, data: DataConfig, seed: int, part: str = "train") -> None:
        kinds = {**dict.fromkeys(WORLDS, ShapeSource), "clips": ClipSource}
        self.seed = seed
        self.groups, shares = [], []
        for own, share in split_lengths(data, part):
            weights = np.array([s.share for s in own.sources], dtype=np.float64)
            self.groups.append(([kinds[s.kind](s, own, part) for s in own.sources], edges_of(weights)))
            shares.append(share)
        self.edges = edges_of(np.array(shares))

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        sources, edges = self.groups[pick_length(self.edges, self.seed, key[0])]
        rng = rng_of(self.seed, *key)
        return sources[pick(edges, rng)].sample(rng)


def named_sources(data: DataConfig, part: str) -> list[SourceConfig]:
    """Return the sources with a share, without those of files that name no folder if there are others.

    What is left out is said once, for `part` "train".
    """
    sources = [source for source in data.sources if source.share > 0]
    named = [source for source in sources if source.kind != "clips" or source.path]
    if part == "train" and named and len(named) < len(sources):
        number = next(i for i, source in enumerate(data.sources) if source in sources and source not in named)
        warnings.warn(
            f"data.sources.{number} names no folder of clips and is left out; "
            f"data.sources.{number}.path=FOLDER adds it",
            stacklevel=2,
        )
    return named or sources


def split_lengths(data: DataConfig, part: str) -> list[tuple[DataConfig, float]]:
    """Return the data of each length of clips, with its share of steps; of "validation" the longest alone."""
    groups: dict[int, list[SourceConfig]] = {}
    for source in named_sources(data, part):
        groups.setdefault(source.num_frames or data.num_frames, []).append(source)
    if part == "validation":
        groups = {longest: groups[longest] for longest in [max(groups)]}
    return [
        (dataclasses.replace(data, num_frames=frames, sources=sources), sum(source.share for source in sources))
        for frames, sources in groups.items()
    ]


def pick_length(edges: np.ndarray, seed: int, step: int) -> int:
    """Draw the number of the length that all clips of a step have, by the shares behind `edges`."""
    return pick(edges, rng_of(seed, step, LENGTH_SLOT)) if len(edges) > 1 else 0


def edges_of(shares: np.ndarray) -> np.ndarray:
    """Return upper ends of the parts of [0, 1] that belong to each share."""
    return np.cumsum(shares / shares.sum())


def pick(edges: np.ndarray, rng: np.random.Generator) -> int:
    """Draw a number by the shares behind `edges`."""
    return int(np.searchsorted(edges[:-1], rng.random(), side="right"))


class Steps:
    """Batch sampler: the keys of every step's batch, from `start` on; its whole position is the step number."""

    def __init__(self, start: int, stop: int, batch_size: int) -> None:
        self.start, self.stop, self.batch_size = start, stop, batch_size

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return ([(step, slot) for slot in range(self.batch_size)] for step in range(self.start, self.stop))


def collate(samples: list[Sample]) -> dict:
    """Return a batch of clips of one length, with their captions."""
    return {"video": torch.stack([s.video for s in samples]), "captions": [s.caption for s in samples]}


def batches(dataset: Dataset, start: int, stop: int, batch_size: int, workers: int, gather=collate) -> DataLoader:
    """Return a loader over the batches of steps start .. stop - 1."""
    return DataLoader(
        dataset, batch_sampler=Steps(start, stop, batch_size), num_workers=workers, collate_fn=gather,
        persistent_workers=workers > 0, multiprocessing_context="fork" if workers else None,
    )  # fmt: skip
