"""How latents come to the noise levels at which a denoiser is read: by random noise, or by noise from the clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import draw_per_sample, sample_generator
from vidgen.diffusion.paths import ProbabilityPath, add_noise, expand_level
from vidgen.interfaces import Pipeline

Latents = Float[Tensor, "b c t h w"]


class Noising(Protocol):
    """Latents at each of `levels`, in their order, level 0 being x0 itself: a function of every clip, its id and the
    number `draw` alone, so that no clip depends on its batch.

    `name` stands in a bank's description; `random` says whether another `draw` gives other latents.
    """

    name: str
    random: bool

    def __call__(self, x0: Latents, levels: Sequence[float], ids: Sequence[int | str], draw: int = 0) -> list[Latents]:
        """Return x_t at each level."""


@dataclass(frozen=True, kw_only=True)
class RandomNoise:
    """Gaussian noise, one draw a clip for all levels: a function of (seed, id, draw)."""

    path: ProbabilityPath
    seed: int = 0
    name: str = "random"
    random: bool = True

    def __call__(self, x0: Latents, levels: Sequence[float], ids: Sequence[int | str], draw: int = 0) -> list[Latents]:
        """Return x_t at each level, of one draw."""
        names = ids if draw == 0 else [f"draw {draw} of {i}" for i in ids]
        eps = draw_per_sample(x0.shape[1:], [sample_generator(self.seed, name) for name in names]).to(x0.device)
        return [add_noise(x0, eps, level_of(x0, level), self.path) for level in levels]


@dataclass(frozen=True, kw_only=True)
class PredictedNoise:
    """Noise that follows from the clip: `predict(x0, level)` gives eps in the place of a random draw.

    In VD-IT (Zhu et al. 2024) a small network is trained for it together with what reads the features;
    `predict_by_denoiser` needs no training.
    """

    path: ProbabilityPath
    predict: Callable[[Latents, float], Latents]
    name: str = "predicted"
    random: bool = False

    def __call__(self, x0: Latents, levels: Sequence[float], ids: Sequence[int | str], draw: int = 0) -> list[Latents]:
        """Return x_t at each level; `draw` makes no difference."""
        return [
            x0 if level == 0 else add_noise(x0, self.predict(x0, level).to(x0), level_of(x0, level), self.path)
            for level in levels
        ]


def predict_by_denoiser(pipe: Pipeline, prompt: str = "") -> Callable[[Latents, float], Latents]:
    """Return a function for the noise that a pipeline's own denoiser sees in clean latents at a level.

    alpha x0 = alpha x0' + sigma eps: one step of DDIM inversion (Song et al. 2021, eq. 14), which draws nothing.
    """

    def predict(x0: Latents, level: float) -> Latents:
        t = level_of(x0, level)
        alpha, sigma = (part(expand_level(t, x0)) for part in (pipe.path.alpha, pipe.path.sigma))
        denoise = pipe.unguided([prompt] * len(x0))
        return alpha * (x0 - denoise(alpha * x0, t)) / sigma

    return predict


def level_of(x: Latents, level: float) -> Float[Tensor, " b"]:
    """Return a noise level for every clip."""
    return torch.full((len(x),), level, device=x.device)
