"""The mean and spread of a tokenizer's latents, measured at the end of training and stored in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from vidgen.noise import sample_generator
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.sources import Mixture, collate

STATISTICS_CLIPS = 256
SMALLEST_SPREAD = 1e-6


def clip_batches(clips: Mixture, count: int, size: int) -> Iterator[dict[str, Any]]:
    """The first `count` clips in batches of `size`, the same ones every time."""
    for first in range(0, count, size):
        yield collate([clips[(0, i)] for i in range(first, min(first + size, count))])


def measure_latents(tokenizer: VideoTokenizer, batches: Iterable[dict[str, Any]], seed: int) -> None:
    """Stores per-channel mean and standard deviation of posterior draws over the clips in the tokenizer.

    Draws and not modes: a channel that the model does not use has a mode of nearly nothing and a spread of one, and
    dividing by the spread of its mode would blow noise up. A channel that never moves keeps a spread of one.
    """
    tokenizer.latents_mean.zero_(), tokenizer.latents_std.fill_(1.0)
    draws = []
    for i, batch in enumerate(batches):
        generator = sample_generator(seed, f"statistics-{i}")
        video = batch["video"].to(tokenizer.latents_mean.device)
        draws.append(tokenizer.encode(video, sample_posterior=True, generator=generator).latents.float())
    latents = torch.cat(draws)
    tokenizer.latents_mean.copy_(latents.mean(dim=(0, 2, 3, 4)))
    spread = latents.std(dim=(0, 2, 3, 4))
    tokenizer.latents_std.copy_(spread.where(spread > SMALLEST_SPREAD, torch.ones_like(spread)))
