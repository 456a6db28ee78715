"""Linear ways for a clip to lose something, each with its pseudo-inverse: y = A x, and A^+ y, the least clip of that y.

Of a clip x that need not fit, A^+ y + x - A^+ A x is the nearest one that does (Wang et al. 2023, DDNM, eq. 10): it has
what y tells of it, and x in all that y leaves open. Clips are pixels (b, 3, t, h, w) in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from einops import reduce, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.errors import VidgenError

Pixels = Float[Tensor, "b 3 t h w"]
FAINT = 0.1  # share of a frequency's amplitude under which it counts as lost: at it, rounding to 8 bits grows tenfold


class Degradation(Protocol):
    """A: `apply`, from clips to what is left of them; A^+: `invert`, from there to clips. Frame by frame."""

    def apply(self, x: Pixels) -> Tensor:
        """Return what is left of clips."""

    def invert(self, y: Tensor) -> Pixels:
        """Return the least clips of which y is left."""


def project(x: Pixels, y: Tensor, degradation: Degradation) -> Pixels:
    """Return the clip nearest to x of which y is left."""
    return degradation.invert(y) + x - degradation.invert(degradation.apply(x))


@dataclass(frozen=True)
class Downsample:
    """What super-resolution undoes: means of `scale` x `scale` pixels."""

    scale: int = 4

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise VidgenError(f"the scale of super-resolution is {self.scale}; it must be 1 or more")

    def apply(self, x: Pixels) -> Float[Tensor, "b 3 t i j"]:
        """Return the means. Raises VidgenError for clips whose size is no multiple of the scale."""
        if x.shape[3] % self.scale or x.shape[4] % self.scale:
            raise VidgenError(f"clips of {x.shape[3]}x{x.shape[4]} are no multiple of the scale {self.scale}")
        return reduce(x, "b c t (i p) (j q) -> b c t i j", "mean", p=self.scale, q=self.scale)

    def invert(self, y: Float[Tensor, "b 3 t i j"]) -> Pixels:
        """Return every mean as a block of pixels."""
        return repeat(y, "b c t i j -> b c t (i p) (j q)", p=self.scale, q=self.scale)


@dataclass(frozen=True)
class Grayscale:
    """What colorization undoes: the mean of red, green and blue, as a clip of one channel."""

    def apply(self, x: Pixels) -> Float[Tensor, "b 1 t h w"]:
        """Return the mean of the colours."""
        return reduce(x, "b c t h w -> b 1 t h w", "mean")

    def invert(self, y: Float[Tensor, "b 1 t h w"]) -> Pixels:
        """Return gray as three equal colours."""
        return repeat(y, "b 1 t h w -> b c t h w", c=3)


@dataclass(frozen=True)
class Blur:
    """What deblurring undoes: a Gaussian of standard deviation `sigma` pixels, periodic at the borders.

    Frequencies of which less than `FAINT` is left are not asked back from y, where they are rounding errors.
    """

    sigma: float = 1.5

    def __post_init__(self) -> None:
        if not self.sigma > 0.0:
            raise VidgenError(f"the sigma of a blur is {self.sigma}; it must be above 0 pixels")

    def response(self, like: Pixels) -> Float[Tensor, "h k"]:
        """Return the share that is left of each frequency of `rfft2`."""
        h, w = like.shape[3:]
        rows, columns = (f(n, device=like.device) for f, n in ((torch.fft.fftfreq, h), (torch.fft.rfftfreq, w)))
        return torch.exp(-2.0 * (torch.pi * self.sigma) ** 2 * (rows[:, None] ** 2 + columns**2))

    def filtered(self, x: Pixels, gain: Float[Tensor, "h k"]) -> Pixels:
        """Return clips with each frequency times its gain."""
        return torch.fft.irfft2(torch.fft.rfft2(x) * gain, s=x.shape[3:])

    def apply(self, x: Pixels) -> Pixels:
        """Return the blurred clips."""
        return self.filtered(x, self.response(x))

    def invert(self, y: Pixels) -> Pixels:
        """Return the clips with the frequencies that are left at their former amplitude."""
        response = self.response(y)
        return self.filtered(y, torch.where(response > FAINT, 1.0 / response, torch.zeros_like(response)))


@dataclass(frozen=True, eq=False)
class Mask:
    """What inpainting undoes: pixels that are lost, True in `mask`, are mid-gray.

    Unlike a mask of the pipeline's call it is exact to the pixel, and what is made anew sees the pixels beside it.
    """

    mask: Bool[Tensor, "h w"] | Bool[Tensor, "t h w"]

    def apply(self, x: Pixels) -> Pixels:
        """Return the clips with the lost pixels at 0. Raises VidgenError for clips of another size than the mask's."""
        if x.shape[-self.mask.ndim :] != self.mask.shape:
            raise VidgenError(f"the mask is {tuple(self.mask.shape)}, and the clip's frames {tuple(x.shape[2:])}")
        return torch.where(self.mask.to(x.device), torch.zeros_like(x), x)

    def invert(self, y: Pixels) -> Pixels:
        """Return what is left, the lost pixels at 0."""
        return self.apply(y)
