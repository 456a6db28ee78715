"""Quantizers whose codebook is a grid that nobody stores: fsq, lfq, bsq (and see `residual_fsq`).

vector-quantize-pytorch 1.32 is right in float32: tests compare its codes and indices. What it gets wrong, measured:
its FSQ makes 7 % right indices of codes in bfloat16 (levels 8, 8, 8, 5, 5, 5), and a channel of more than 1,000 levels
runs over into the next; its LFQ has a table of vectors x codes for the entropy (1.2 GB for 256 vectors, 2^18 codes),
in bfloat16 under autocast on a CPU. Here indices are sums of integers, and the entropy is taken apart into factors.
"""

from __future__ import annotations

from abc import abstractmethod
from math import atanh, prod

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks.factored_entropy import entropy_loss
from vidgen.tokenizers.bottlenecks.output import (
    BottleneckOutput,
    Quantizer,
    check_codebook_size,
    full_precision,
    mean_square,
    widen,
)

FSQ_MARGIN = 1e-3  # by how much tanh reaches beyond the outer levels

Channels = Float[Tensor, "... d"]
Digits = Int[Tensor, "... d"]


class ImplicitQuantizer(Quantizer):
    """One digit a channel, of `levels[i]` levels; the index is sum of digit_i * prod(levels[:i])."""

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        check_codebook_size(prod(levels))
        # As Python numbers: buffers that are not saved would stay without values where a model is built on "meta".
        self.levels = levels
        self.basis = tuple(prod(levels[:i]) for i in range(len(levels)))
        self.channels_in, self.codebook_size = len(levels), prod(levels)

    @abstractmethod
    def bound(self, h: Channels) -> Channels:
        """Return the encoder's output where its digits are read off."""

    @abstractmethod
    def digits(self, x: Channels) -> Digits:
        """Return the digits of bounded values."""

    @abstractmethod
    def coordinates(self, x: Channels) -> Channels:
        """Return bounded values in units of digits: level k lies at k."""

    @abstractmethod
    def codes(self, digits: Digits, dtype: torch.dtype) -> Channels:
        """Return the latents of digits."""

    def scale(self, like: Tensor) -> Float[Tensor, " d"]:
        """Return latents for each unit of the bounded values."""
        return like.new_ones(self.channels_in)

    def losses(self, x: Channels, codes: Channels) -> dict[str, Tensor]:
        """Return `entropy` of soft assignments, in nats: see `entropy_loss`."""
        y = rearrange(self.coordinates(x), "b t h w d -> (b t h w) d")
        return {"entropy": entropy_loss(y, self.levels)}

    def forward(
        self, h: Float[Tensor, "b d t h w"], *, sample: bool = False, generator: torch.Generator | None = None
    ) -> BottleneckOutput:
        """Return codes with straight-through gradients, their indices and losses: see `Quantizer.forward`."""
        with full_precision(h):
            x = self.bound(rearrange(widen(h), "b d t h w -> b t h w d"))
            digits = self.digits(x.detach())
            codes = self.codes(digits, x.dtype)
            path = x * self.scale(x)
            # Exactly the codes, where path + (codes - path) is off by rounding.
            latents = codes + (path - path.detach())
            return BottleneckOutput(
                latents=rearrange(latents, "b t h w d -> b d t h w").to(h.dtype),
                indices=(digits * self._row(self.basis, digits)).sum(dim=-1),
                losses=self.losses(x, codes),
            )

    def from_indices(
        self, indices: Int[Tensor, "b t h w"], *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b d t h w"]:
        """Return the latents of indices: see `Quantizer.from_indices`."""
        indices = rearrange(self.check_indices(indices), "b t h w -> b t h w 1")
        digits = indices // self._row(self.basis, indices) % self._row(self.levels, indices)
        return rearrange(self.codes(digits, dtype), "b t h w d -> b d t h w")

    def to_indices(self, latents: Float[Tensor, "b d t h w"]) -> Int[Tensor, "b t h w"]:
        """Return the indices of the codes next to `latents`: the inverse of `from_indices`."""
        with full_precision(latents):
            z = rearrange(widen(latents), "b d t h w -> b t h w d")
            digits = self.digits(z / self.scale(z))
            return (digits * self._row(self.basis, digits)).sum(dim=-1)

    @staticmethod
    def _row(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, device=like.device, dtype=like.dtype)


class FSQ(ImplicitQuantizer):
    """Finite scalar quantization (Mentzer et al. 2024, appendix A.1): tanh, then rounding; any levels from two.

    Latents are level / (levels // 2), in [-1, 1]. The paper has no auxiliary loss; `entropy` is there to be weighed.
    """

    def __init__(self, latent_channels: int, *, levels: tuple[int, ...]) -> None:
        super().__init__(check_levels(levels, latent_channels))
        self.half = tuple((size - 1) * (1 + FSQ_MARGIN) / 2 for size in levels)
        self.offset = tuple(0.5 * (size % 2 == 0) for size in levels)
        # Zero is in the middle of a level. Of two levels, the code 0 is at the end of tanh and would take all.
        self.shift = tuple(
            atanh(offset / half) if size > 2 else 0.0
            for offset, half, size in zip(self.offset, self.half, levels, strict=True)
        )

    def bound(self, h: Channels) -> Channels:
        """Return tanh of `h`, as wide as the levels reach, with zero in the middle of a level."""
        return torch.tanh(h + self._row(self.shift, h)) * self._row(self.half, h) - self._row(self.offset, h)

    def digits(self, x: Channels) -> Digits:
        """Return the levels next to bounded values, from 0 on."""
        top = self._row(self.levels, x).long() - 1
        return (x.round().long() + self._center(x).long()).clamp(min=torch.zeros_like(top), max=top)

    def coordinates(self, x: Channels) -> Channels:
        """Return bounded values in units of digits."""
        return x + self._center(x)

    def codes(self, digits: Digits, dtype: torch.dtype) -> Channels:
        """Return level / (levels // 2), in [-1, 1]."""
        digits = digits.to(dtype)
        return (digits - self._center(digits)) / self._center(digits)

    def scale(self, like: Tensor) -> Float[Tensor, " d"]:
        """Return latents for each unit of the bounded values."""
        return 1.0 / self._center(like)

    def _center(self, like: Tensor) -> Tensor:
        """Return the digit at 0, which is also by how much the levels reach below it."""
        return self._row(tuple(size // 2 for size in self.levels), like)


class SignQuantizer(ImplicitQuantizer):
    """The signs of the channels as digits: latents are +-1 / sqrt(`scale`), of 2^channels codes."""

    def __init__(self, latent_channels: int, scale: int) -> None:
        super().__init__((2,) * latent_channels)
        self.sign_scale = scale

    def digits(self, x: Channels) -> Digits:
        """Return 1 where a channel is positive."""
        return (x > 0).long()

    def coordinates(self, x: Channels) -> Channels:
        """Return bounded values in units of digits."""
        return (x * self.sign_scale**0.5 + 1.0) / 2.0

    def codes(self, digits: Digits, dtype: torch.dtype) -> Channels:
        """Return -1 / sqrt(scale) and 1 / sqrt(scale) for digits 0 and 1."""
        return (2.0 * digits.to(dtype) - 1.0) / self.sign_scale**0.5

    def losses(self, x: Channels, codes: Channels) -> dict[str, Tensor]:
        """Return `entropy`, and `commitment`, the mean squared distance to the codes times `scale`."""
        return {**super().losses(x, codes), "commitment": self.sign_scale * mean_square(x - codes)}


class LFQ(SignQuantizer):
    """Lookup-free quantization (Yu et al. 2024, MAGVIT-v2, eq. 3-5): the signs of the channels; 2^channels codes.

    The commitment loss is that of van den Oord et al. 2017, eq. 3.
    """

    def __init__(self, latent_channels: int) -> None:
        super().__init__(latent_channels, scale=1)

    def bound(self, h: Channels) -> Channels:
        """Return `h` itself."""
        return h


class BSQ(SignQuantizer):
    """Binary spherical quantization (Zhao et al. 2024, eq. 4-6): signs of the channels on the unit sphere.

    Latents are +-1 / sqrt(channels). Soft assignments have the paper's temperature tau = 2 * channels, at which the
    probability of a sign falls off as in `LFQ` whatever the number of channels. The authors' released code instead
    multiplies by an inverse temperature of 1 (its published configurations do not change it): the probability of a sign
    is sigmoid(4 x / sqrt(channels)), which at the code itself, x = 1 / sqrt(channels), is 0.56 for 18 channels, where
    ours is 0.98. That is nearly even wherever x lies, so the entropy of a position could hardly fall, and its gradient
    would shrink with the number of channels; it is not offered. The commitment loss is the squared distance on the
    sphere, which is below 2.
    """

    def __init__(self, latent_channels: int) -> None:
        super().__init__(latent_channels, scale=latent_channels)

    def bound(self, h: Channels) -> Channels:
        """Return `h` on the unit sphere."""
        return F.normalize(h, dim=-1)


def check_levels(levels: tuple[int, ...], latent_channels: int) -> tuple[int, ...]:
    """Return `levels` as a tuple. Raises VidgenError unless they are numbers from two, one for each channel."""
    if not all(isinstance(size, int) and size >= 2 for size in levels):
        raise VidgenError(f"levels {tuple(levels)}: each channel needs a whole number of levels, two or more")
    if len(levels) != latent_channels:
        raise VidgenError(
            f"{len(levels)} levels {tuple(levels)} make {len(levels)} latent channels, not {latent_channels}: "
            f"set latent_channels={len(levels)}"
        )
    return tuple(levels)
