"""Latents encoded once and kept: a cache keyed by the tokenizer's hash and the data, refused for any other."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from vidgen.atomic import written_aside
from vidgen.data.shapes import ClipLabels, describe
from vidgen.errors import VidgenError
from vidgen.hashing import model_hash
from vidgen.train.config import DataConfig
from vidgen.train.sources import Mixture, Sample, collate, rng_of

ENCODE_BATCH = 16


def cache_key(tokenizer: torch.nn.Module, data: DataConfig, part: str, seed: int, count: int) -> str:
    """A hash of all that the cached latents depend on."""
    recipe = {
        **dataclasses.asdict(data),
        "workers": 0,
        "validation_clips": 0,
        "part": part,
        "seed": seed,
        "count": count,
    }
    return hashlib.sha256((model_hash(tokenizer) + json.dumps(recipe, sort_keys=True)).encode()).hexdigest()[:16]


def encode_clips(
    tokenizer: torch.nn.Module, mixture: Mixture, count: int
) -> tuple[Float[Tensor, "n c t h w"], list[dict]]:
    """Latents (float16) of clips 0 .. count - 1 of a mixture, with what each one's captions are made from."""
    parameter = next(tokenizer.parameters())
    latents, rows = [], []
    with torch.inference_mode():
        for first in tqdm(range(0, count, ENCODE_BATCH), desc="encoding clips", unit="batch", disable=None):
            samples = [mixture[(0, i)] for i in range(first, min(first + ENCODE_BATCH, count))]
            video = collate(samples)["video"].to(parameter.device, parameter.dtype)
            latents.append(tokenizer.encode(video).latents.to("cpu", torch.float16))
            rows += [caption_row(sample) for sample in samples]
    return torch.cat(latents).contiguous(), rows  # convolutions leave them channels-last, which files do not know


def caption_row(sample: Sample) -> dict:
    """The labels, where the synthetic world gave them (a new wording at every visit), else the caption."""
    return {"labels": sample.labels.to_dict()} if sample.labels is not None else {"caption": sample.caption}


class CachedLatents(Dataset):
    """Latents and captions; item (step, slot) is a function of the seed, the step and the slot.

    Raises VidgenError where the cache file is damaged.
    """

    def __init__(
        self,
        tokenizer: torch.nn.Module,
        data: DataConfig,
        *,
        seed: int,
        count: int,
        part: str = "train",
        cache: str = "",
    ) -> None:
        self.seed = seed
        if not cache:
            self.latents, self.rows = encode_clips(tokenizer, Mixture(data, seed, part), count)
            return
        folder = Path(cache) / f"latents-{cache_key(tokenizer, data, part, seed, count)}"
        if not folder.is_dir():
            latents, rows = encode_clips(tokenizer, Mixture(data, seed, part), count)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with written_aside(folder) as target:
                target.mkdir()
                save_file({"latents": latents}, target / "latents.safetensors")
                (target / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        try:
            with safe_open(folder / "latents.safetensors", framework="pt") as file:
                self.latents = file.get_tensor("latents")
            lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()
        except (OSError, SafetensorError) as error:
            raise VidgenError(f"{folder} is damaged ({error}); remove it, and it is made again") from None
        self.rows = [json.loads(line) for line in lines]

    def __getitem__(self, key: tuple[int, int]) -> tuple[Float[Tensor, "c t h w"], str]:
        rng = rng_of(self.seed, *key)
        index = int(rng.integers(len(self.rows)))
        return self.latents[index].float(), self.caption(index, rng)

    def caption(self, index: int, rng: np.random.Generator) -> str:
        row = self.rows[index]
        return describe(ClipLabels.from_dict(row["labels"]), rng) if "labels" in row else row["caption"]
