"""The mean and spread of a tokenizer's latents, measured at the end of training and stored in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.data.sources import Mixture, collate

STATISTICS_CLIPS = 256
SMALLEST_SPREAD = 1e-6


def clip_batches(clips: Mixture, count: int, size: int) -> Iterator[dict[str, Any]]:
    """Yield the first `count` clips in batches of `size`, the same ones every time."""
    for first in range(0, count, size):
        yield collate([clips[(0, i)] for i in range(first, min(first + size, count))])


def measure_latents(tokenizer: VideoTokenizer, batches: Iterable[dict[str, Any]], seed: int) -> None:
    """Store per-channel mean and standard deviation of posterior draws over the clips in the tokenizer.

    Draws and not modes: a channel that the model does not use has a mode of nearly nothing and a spread of one, and
    dividing by the spread of its mode would blow noise up. A channel that never moves keeps a spread of one.
    Raises VidgenError for a codebook that has collapsed: one code for all of the clips.
    """
    tokenizer.latents_mean.zero_()
    tokenizer.latents_std.fill_(1.0)
    draws, indices = [], []
    for i, batch in enumerate(batches):
        generator = sample_generator(seed, f"statistics-{i}")
        video = batch["video"].to(tokenizer.latents_mean.device)
        encoded = tokenizer.encode(video, sample_posterior=True, generator=generator)
        draws.append(encoded.latents.float())
        indices += [] if encoded.indices is None else [encoded.indices]
    if indices:
        check_codebooks(torch.cat(indices), tokenizer.bottleneck.codebook_size)
    store_moments(torch.cat(draws), tokenizer.latents_mean, tokenizer.latents_std)


def store_moments(latents: Float[Tensor, "n c t h w"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> None:
    """Write each channel's mean and standard deviation into buffers; a channel that never moves has a spread of one."""
    mean.copy_(latents.mean(dim=(0, 2, 3, 4)))
    spread = latents.std(dim=(0, 2, 3, 4))
    std.copy_(spread.where(spread > SMALLEST_SPREAD, torch.ones_like(spread)))


def check_codebooks(indices: Int[Tensor, "b t h w *q"], size: int) -> None:
    """Raise VidgenError where a codebook, the last axis of a fifth, has one code for all positions."""
    for number, column in enumerate(rearrange(indices, "b t h w ... -> (...) (b t h w)")):
        if len(column) > 1 and (column == column[0]).all():
            raise VidgenError(
                f"codebook {number} has collapsed: of {size} codes, all {len(column)} tokens of held-out clips take "
                f"code {column[0]}; no model is written: train again with a lower optimizer.lr or fewer codes"
            )
