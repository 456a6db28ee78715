"""Paths from data to noise, x_t = alpha(t) x0 + sigma(t) eps, and the quantities that a network may predict on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor


class Path(Protocol):
    """alpha and sigma at noise level t in [0, 1]; t = 0 is data (alpha 1, sigma 0), t = 1 is noise."""

    def alpha(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FlowPath:
    """Straight lines, x_t = (1 - t) x0 + t eps (Liu et al. 2023; Lipman et al. 2023 with sigma_min = 0)."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1.0 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t


PATHS: dict[str, Callable[[], Path]] = {"flow": FlowPath}


def expand_level(t: Float[Tensor, b * f], like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 1 f 1 1"]:
    """Noise levels (b,) or one per frame (b, t), shaped to broadcast over clips (b, c, t, h, w)."""
    if t.ndim == 0:
        t = t.expand(like.shape[0])
    if t.shape[0] != like.shape[0] or (t.ndim == 2 and t.shape[1] != like.shape[2]) or t.ndim > 2:
        raise ValueError(f"noise levels {tuple(t.shape)} fit neither (b,) nor (b, t) of latents {tuple(like.shape)}")
    return t.reshape(like.shape[0], 1, -1, 1, 1).to(like.device, torch.promote_types(like.dtype, torch.float32))


def add_noise(x0: Tensor, eps: Tensor, t: Float[Tensor, b * f], path: Path) -> Tensor:
    """x_t = alpha(t) x0 + sigma(t) eps."""
    level = expand_level(t, x0)
    return path.alpha(level) * x0 + path.sigma(level) * eps


@dataclass(frozen=True)
class Parametrisation:
    """What a network predicts, `target(x0, eps, alpha, sigma)`; `to_x0(prediction, x_t, alpha, sigma)` inverts it."""

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    to_x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


PARAMETRISATIONS: dict[str, Parametrisation] = {
    "x0": Parametrisation(lambda x0, eps, a, s: x0, lambda p, x, a, s: p),
    "eps": Parametrisation(lambda x0, eps, a, s: eps, lambda p, x, a, s: (x - s * p) / a),
    # Salimans & Ho 2022, section 4: v = alpha eps - sigma x0, here also where alpha^2 + sigma^2 is not 1.
    "v": Parametrisation(lambda x0, eps, a, s: a * eps - s * x0, lambda p, x, a, s: (a * x - s * p) / (a * a + s * s)),
    # The velocity dx_t/dt = eps - x0, on any path with alpha + sigma > 0.
    "flow": Parametrisation(lambda x0, eps, a, s: eps - x0, lambda p, x, a, s: (x - s * p) / (a + s)),
}
