"""Cached latents of clips of several lengths: each length has a cache of its own, and every batch is of one length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from vidgen.errors import VidgenError
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.config import DataConfig
from vidgen.train.data.latent_cache import CachedClip, LatentCache
from vidgen.train.data.sources import edges_of, named_sources, pick_length, split_lengths
from vidgen.train.data.splits import source_records

CROPS = 16  # of each file, where a recipe does not say how many clips to cache


class MixedLengths(Dataset):
    """Caches of clips of several lengths. Item (step, slot) is that of the cache which the seed and the step draw by
    the `shares`: images and clips mix as in `Mixture`, at the same steps."""

    def __init__(self, caches: Sequence[LatentCache], shares: Sequence[float], seed: int) -> None:
        self.caches = list(caches)
        self.edges = edges_of(np.array(shares, dtype=np.float64))
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> CachedClip:
        return self.caches[pick_length(self.edges, self.seed, key[0])][key]


def open_latents(
    tokenizer: VideoTokenizer, data: DataConfig, *, seed: int, count: int, **settings: Any
) -> LatentCache | MixedLengths:
    """Return the cached latents that train: `count` clips in all, 0 for `CROPS` of each file. Lengths get their part by
    the shares, at least one clip each. `settings` are those of `LatentCache`."""
    lengths = split_lengths(data, "train")
    if len(lengths) == 1:
        return LatentCache(tokenizer, data, seed=seed, count=count or CROPS * count_files(data), **settings)
    total = sum(share for _, share in lengths)
    caches = [
        LatentCache(
            tokenizer,
            own,
            seed=seed,
            count=max(1, round(count * share / total)) if count else CROPS * count_files(own),
            **settings,
        )
        for own, share in lengths
    ]
    return MixedLengths(caches, [share for _, share in lengths], seed)


def open_held_out(
    tokenizer: VideoTokenizer, data: DataConfig, *, seed: int, count: int, **settings: Any
) -> LatentCache:
    """Return the cached latents of held-out clips, of the longest length."""
    lengths = split_lengths(data, "train")
    ((longest, _),) = split_lengths(data, "validation")
    own = data if len(lengths) == 1 else longest
    return LatentCache(tokenizer, own, seed=seed, count=count, part="validation", **settings)


def count_files(data: DataConfig) -> int:
    """Return how many clips of files train. Raises VidgenError for sources that have no number of them."""
    sources = named_sources(data, "validation")
    if any(source.kind != "clips" for source in sources):
        raise VidgenError("cached_clips=0 counts the clips of files, and the synthetic world has no end: give a number")
    return sum(len(source_records(source, "train")) for source in sources)
