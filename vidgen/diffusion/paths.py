"""Probability paths from data to noise, x_t = alpha(t) x0 + sigma(t) eps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.bounds import Length, Positive, Share, check_fields
from vidgen.errors import VidgenError


class ProbabilityPath(Protocol):
    """alpha and sigma at noise level t in [0, 1]; t = 0 is data (alpha 1, sigma 0), t = 1 is noise.

    `level` is the t at which sigma / alpha is that of its arguments. `input_scale` is what a network's input is
    multiplied by: 1, unless x_t grows far beyond the data.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the data at level t."""

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise at level t."""

    def level(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the level at which sigma / alpha is that of the arguments."""

    def input_scale(self, t: Tensor) -> Tensor:
        """Return what a network's input is multiplied by at level t."""


@dataclass(frozen=True)
class FlowPath:
    """Straight lines, x_t = (1 - t) x0 + t eps (Liu et al. 2023; Lipman et al. 2023 with sigma_min = 0)."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return 1 - t."""
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Return t."""
        return t

    def level(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return sigma / (alpha + sigma)."""
        return sigma / (alpha + sigma)

    def input_scale(self, t: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(t)


@dataclass(frozen=True)
class CosinePath:
    """Variance preserving, alpha = cos(pi t / 2), sigma = sin(pi t / 2) (Nichol & Dhariwal 2021, eq. 17, no offset).

    At t = 1 alpha is exactly 0 (zero terminal SNR, Lin et al. 2023): a network that predicts eps cannot start there.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Return cos(pi t / 2)."""
        return torch.sin(0.5 * math.pi * (1.0 - t))  # and not cos(pi t / 2), which misses 0 by a rounding

    def sigma(self, t: Tensor) -> Tensor:
        """Return sin(pi t / 2)."""
        return torch.sin(0.5 * math.pi * t)

    def level(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return atan2(sigma, alpha) over a right angle."""
        return torch.atan2(sigma, alpha) / (0.5 * math.pi)

    def input_scale(self, t: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(t)


@dataclass(frozen=True, kw_only=True)
class EDMPath:
    """Variance exploding, alpha = 1 and sigma from 0 to `sigma_max` (Karras et al. 2022).

    Even steps of t are the paper's steps (eq. 5) but for an offset of about sigma_min, which makes t = 0 clean data:
    sigma(t) = c ((a + t (b - a))^rho - a^rho), a and b being the rho-th roots of sigma_min and sigma_max, and c such
    that sigma(1) is sigma_max. The network's input is scaled by c_in (table 1, for data of unit variance).
    """

    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    rho: Positive = 7.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.sigma_min >= self.sigma_max:
            raise VidgenError(f"{self}: sigma_min must be below sigma_max")

    @property
    def _growth(self) -> tuple[float, float]:
        """(b - a) / a, and the factor c sigma_min."""
        growth = (self.sigma_max / self.sigma_min) ** (1.0 / self.rho) - 1.0
        return growth, self.sigma_max * self.sigma_min / (self.sigma_max - self.sigma_min)

    def alpha(self, t: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return sigma(t), see the class."""
        growth, factor = self._growth
        return factor * torch.expm1(self.rho * torch.log1p(growth * t))

    def level(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the t of a ratio sigma / alpha."""
        growth, factor = self._growth
        return torch.expm1(torch.log1p(sigma / alpha / factor) / self.rho) / growth

    def input_scale(self, t: Tensor) -> Tensor:
        """Return c_in (table 1)."""
        return 1.0 / (1.0 + self.sigma(t) ** 2).sqrt()


@dataclass(frozen=True, kw_only=True)
class TablePath:
    """Variance preserving, with alpha given at t = 1/n, 2/n, ..., 1: that of a network trained on n noise levels.

    What others call timestep k is level (k + 1) / n; t = 0 is clean data. Between two entries the angle
    atan2(sigma, alpha) is linear in t. Raises VidgenError unless alpha falls from below 1 to 0 or more.
    """

    alphas: Annotated[tuple[Share, ...], Length(1, 10**6)]

    def __post_init__(self) -> None:
        check_fields(self)
        if not all(a > b for a, b in zip((1.0, *self.alphas), self.alphas, strict=False)):
            raise VidgenError(
                f"a table of {len(self.alphas)} alphas is no path: they must fall from below 1 to 0 or more"
            )

    @cached_property
    def _angles(self) -> Float[Tensor, "two n_plus_1"]:
        """At each entry the angle from data, and what is left of it to noise: at the ends one of them is 0 exactly."""
        alpha = torch.tensor((1.0, *self.alphas), dtype=torch.float64)
        from_data = torch.acos(alpha)
        return torch.stack([from_data, torch.where(alpha == 0, 0.0, 0.5 * math.pi - from_data)])

    def _angle(self, t: Tensor, end: int) -> Tensor:
        """The angle from one of the ends at level t, in float64."""
        angles = self._angles[end].to(t.device)
        position = t.double().clamp(0.0, 1.0) * len(self.alphas)
        low = position.floor().long().clamp(max=len(self.alphas) - 1)
        return torch.lerp(angles[low], angles[low + 1], position - low)

    def alpha(self, t: Tensor) -> Tensor:
        """Return the cosine of the angle at t."""
        return self._angle(t, 1).sin().to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the sine of the angle at t."""
        return self._angle(t, 0).sin().to(t.dtype)

    def level(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the t of an angle atan2(sigma, alpha)."""
        angles = self._angles[0].to(alpha.device)
        angle = torch.atan2(sigma.double(), alpha.double()).clamp(max=angles[-1])
        high = torch.searchsorted(angles, angle).clamp(min=1)
        share = (angle - angles[high - 1]) / (angles[high] - angles[high - 1])
        return ((high - 1 + share) / len(self.alphas)).to(torch.promote_types(alpha.dtype, sigma.dtype))

    def input_scale(self, t: Tensor) -> Tensor:
        """Return 1."""
        return torch.ones_like(t)


PATHS: dict[str, Callable[[], ProbabilityPath]] = {"flow": FlowPath, "cosine": CosinePath, "edm": EDMPath}


def expand_level(t: Float[Tensor, b * f], like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 1 f 1 1"]:
    """Return noise levels (b,), or one per frame (b, t), shaped to broadcast over clips (b, c, t, h, w)."""
    if t.ndim == 0:
        t = t.expand(like.shape[0])
    if t.shape[0] != like.shape[0] or (t.ndim == 2 and t.shape[1] != like.shape[2]) or t.ndim > 2:
        raise ValueError(f"noise levels {tuple(t.shape)} fit neither (b,) nor (b, t) of latents {tuple(like.shape)}")
    return t.reshape(like.shape[0], 1, -1, 1, 1).to(like.device, torch.promote_types(like.dtype, torch.float32))


def add_noise(x0: Tensor, eps: Tensor, t: Float[Tensor, b * f], path: ProbabilityPath) -> Tensor:
    """Return x_t = alpha(t) x0 + sigma(t) eps."""
    level = expand_level(t, x0)
    return path.alpha(level) * x0 + path.sigma(level) * eps


def network_input(x0: Tensor, eps: Tensor, t: Float[Tensor, b * f], path: ProbabilityPath) -> Tensor:
    """Return x_t as a network takes it: `add_noise` times the path's input scale."""
    return path.input_scale(expand_level(t, x0)) * add_noise(x0, eps, t, path)
