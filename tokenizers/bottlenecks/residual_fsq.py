"""Residual fsq: finite scalar quantization of what is left, coarse to fine."""

from __future__ import annotations

from math import prod

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.tokenizers.bottlenecks.factored_entropy import entropy_loss
from vidgen.tokenizers.bottlenecks.implicit_quantizers import Channels, Digits, check_levels
from vidgen.tokenizers.bottlenecks.output import (
    BottleneckOutput,
    Quantizer,
    check_codebook_size,
    check_quantizers,
    full_precision,
    widen,
)


class ResidualFSQ(Quantizer):
    """FSQ of what is left, `quantizers` times: tanh of a channel in base `levels[i]`, the coarse digit first.

    The first codebook cuts [-1, 1] into `levels[i]` equal intervals, each next one the interval that it is in; latents
    are the middles. So every combination of codes is a code, none twice, and any first few are a coarser clip. (Plain
    `FSQ` puts its outer levels at -1 and 1: the intervals of the first codebook are not those of one with a margin.)
    """

    def __init__(self, latent_channels: int, *, quantizers: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels, self.quantizers = check_levels(levels, latent_channels), check_quantizers(quantizers)
        check_codebook_size(prod(levels))
        self.basis = tuple(prod(levels[:i]) for i in range(len(levels)))
        self.channels_in = latent_channels
        self.codebook_size = prod(levels)

    def forward(
        self, h: Float[Tensor, "b d t h w"], *, sample: bool = False, generator: torch.Generator | None = None
    ) -> BottleneckOutput:
        """Return the middles with straight-through gradients, indices and the mean `entropy` of the codebooks."""
        with full_precision(h):
            x = torch.tanh(rearrange(widen(h), "b d t h w -> b t h w d"))
            indices, codes, entropies = self._divide(x)
            return BottleneckOutput(
                latents=rearrange(codes + (x - x.detach()), "b t h w d -> b d t h w").to(h.dtype),
                indices=indices,
                losses={"entropy": torch.stack(entropies).mean()},
            )

    def _divide(self, x: Channels) -> tuple[Int[Tensor, "b t h w q"], Channels, list[Tensor]]:
        """Return indices, middles of the finest intervals, and the entropy loss of each codebook."""
        levels = torch.tensor(self.levels, device=x.device)
        basis = torch.tensor(self.basis, device=x.device)
        width, middle = x.new_ones(len(self.levels)), torch.zeros_like(x)
        indices, entropies = [], []
        for _ in range(self.quantizers):
            y = ((x - middle) / width + 1.0) / 2.0 * levels - 0.5  # level k lies at k
            digits = y.detach().round().long().clamp(min=torch.zeros_like(levels), max=levels - 1)
            entropies.append(entropy_loss(rearrange(y, "b t h w d -> (b t h w) d"), self.levels))
            indices.append((digits * basis).sum(dim=-1))
            middle, width = middle + self._step(digits, width, levels), width / levels
        return torch.stack(indices, dim=-1), middle, entropies

    @staticmethod
    def _step(digits: Digits, width: Tensor, levels: Tensor) -> Channels:
        """Return the way from the middle of an interval to that of its part `digits`."""
        return width * ((2 * digits + 1).to(width.dtype) / levels - 1.0)

    def from_indices(
        self, indices: Int[Tensor, "b t h w q"], *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b d t h w"]:
        """Return the latents of indices: see `Quantizer.from_indices`."""
        indices = self.check_indices(indices)
        levels = torch.tensor(self.levels, device=indices.device)
        basis = torch.tensor(self.basis, device=indices.device)
        width = torch.ones(len(self.levels), device=indices.device, dtype=dtype)
        middle = torch.zeros_like(width)
        for column in indices.split(1, dim=-1):
            middle, width = middle + self._step(column // basis % levels, width, levels), width / levels
        return rearrange(middle, "b t h w d -> b d t h w")

    def to_indices(self, latents: Float[Tensor, "b d t h w"]) -> Int[Tensor, "b t h w q"]:
        """Return the indices of the intervals that hold `latents`: the inverse of `from_indices`."""
        with full_precision(latents):
            return self._divide(rearrange(widen(latents), "b d t h w -> b t h w d"))[0]
