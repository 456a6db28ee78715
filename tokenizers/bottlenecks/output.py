"""What every bottleneck returns, and what the discrete ones have in common: indices, and the way back from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.diffusion.noise import draw_normal
from vidgen.errors import VidgenError

LARGEST_CODEBOOK = 2**62  # indices are int64


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """Diagonal Gaussian posterior, `mean` and `logvar` of shape (b, c, t, h, w)."""

    mean: Float[Tensor, "b c t h w"]
    logvar: Float[Tensor, "b c t h w"]

    def sample(self, generator: torch.Generator | None = None) -> Float[Tensor, "b c t h w"]:
        """Return mean + std * noise, with the noise drawn on CPU in float32 from `generator`."""
        noise = draw_normal(self.mean.shape, generator).to(self.mean)
        return self.mean + torch.exp(0.5 * self.logvar) * noise

    def kl(self) -> Float[Tensor, "b c t h w"]:
        """Return the KL divergence from the standard normal, nats per element (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean**2 + self.logvar.exp() - 1.0 - self.logvar)


@dataclass(frozen=True, kw_only=True)
class BottleneckOutput:
    """What every bottleneck returns: `latents` for the decoder, int64 `indices` (b, t, h, w), or (b, t, h, w, q) of q
    residual codebooks, or None, `posterior` or None, and named `losses` (scalars) that training weighs."""

    latents: Float[Tensor, "b c t h w"]
    indices: Int[Tensor, "b t h w"] | Int[Tensor, "b t h w q"] | None = None
    posterior: Gaussian | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)


class Quantizer(nn.Module, ABC):
    """A discrete bottleneck. `codebook_size` codes, of each of `quantizers` codebooks where it is residual.

    Each position is quantized by itself, in float32 (float64 stays) whatever autocast says; evaluation changes no
    state. Latents come out in the dtype of the input.
    """

    channels_in: int
    codebook_size: int
    quantizers: int | None = None  # None: indices have no axis for it
    levels: tuple[int, ...] = ()  # of each channel, where indices are made of digits

    @abstractmethod
    def forward(
        self, h: Float[Tensor, "b c t h w"], *, sample: bool = False, generator: torch.Generator | None = None
    ) -> BottleneckOutput:
        """Quantize `h`, with straight-through gradients (Bengio et al. 2013).

        There is nothing to `sample`; what is drawn while training is drawn from `generator`.
        """

    @abstractmethod
    def from_indices(
        self, indices: Int[Tensor, "b t h w"] | Int[Tensor, "b t h w q"], *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b c t h w"]:
        """Return the latents that indices stand for: to the bit those of `forward` for an `h` of `dtype`.

        Raises VidgenError for indices that are not integers of this codebook.
        """

    def check_indices(self, indices: Tensor) -> Int[Tensor, ...]:
        """Return the indices as int64.

        Raises VidgenError for another type, shape or an index that the codebook lacks.
        """
        if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
            raise VidgenError(f"indices are {indices.dtype}; indices of a codebook are integers, e.g. torch.int64")
        axes = 4 if self.quantizers is None else 5
        if indices.ndim != axes or (self.quantizers is not None and indices.shape[-1] != self.quantizers):
            expected = "(b, t, h, w)" if self.quantizers is None else f"(b, t, h, w, {self.quantizers})"
            raise VidgenError(f"indices have shape {tuple(indices.shape)}; this bottleneck takes {expected}")
        indices = indices.long()
        if indices.numel():
            low, high = (v.item() for v in torch.aminmax(indices))
            if low < 0 or high >= self.codebook_size:
                raise VidgenError(
                    f"index {low if low < 0 else high} is out of range: the codebook has {self.codebook_size} codes, "
                    f"0 to {self.codebook_size - 1}"
                )
        return indices


def check_codebook_size(size: int, smallest: int = 2) -> int:
    """Return `size`. Raises VidgenError for a number of codes that is none, or that no int64 index reaches."""
    if not isinstance(size, int) or not smallest <= size <= LARGEST_CODEBOOK:
        raise VidgenError(f"a codebook of {size!r} codes cannot be made; choose from {smallest} to 2^62")
    return size


def check_quantizers(quantizers: int) -> int:
    """Return `quantizers`. Raises VidgenError for less than one codebook."""
    if not isinstance(quantizers, int) or quantizers < 1:
        raise VidgenError(f"quantizers={quantizers!r}: a residual bottleneck has one codebook or more, e.g. 4")
    return quantizers


def full_precision(h: Tensor) -> torch.autocast:
    """Return a context without autocast on the device of `h`."""
    return torch.autocast(h.device.type, enabled=False)


def widen(h: Tensor) -> Tensor:
    """Return `h` in float32 at least."""
    return h.to(torch.promote_types(h.dtype, torch.float32))


def mean_square(x: Tensor) -> Float[Tensor, ""]:
    """Return the mean of the squares; 0 of nothing."""
    return x.square().sum() / max(1, x.numel())
