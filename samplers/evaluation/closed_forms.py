"""Data whose ideal denoiser is known in closed form: what solvers, guidance and likelihood are measured against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.diffusion.prediction_types import find_prediction_type
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.stepping import Clip


@dataclass(frozen=True, kw_only=True)
class GaussianData:
    """Every number of a clip is N(mean, std^2), independent of the others; `std` may be one for each channel."""

    mean: float = 0.4
    std: float | Float[Tensor, "1 c 1 1 1"] = 0.6

    def marginal(self, t: Tensor, path: ProbabilityPath) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of x_t."""
        alpha, sigma = path.alpha(t), path.sigma(t)
        return alpha * self.mean, ((alpha * self.std) ** 2 + sigma**2).sqrt()

    def denoiser(self, path: ProbabilityPath) -> Denoiser:
        """Return E[x0 | x_t], which is linear in x_t."""

        def denoise(x: Clip, t: Tensor) -> Clip:
            level = expand_level(t, x)
            mean, std = self.marginal(level, path)
            return self.mean + path.alpha(level) * self.std**2 / std**2 * (x - mean)

        return denoise

    def carry(self, x: Clip, t: Tensor, s: Tensor, path: ProbabilityPath) -> Clip:
        """Return where the probability flow carries x_t at level s: quantiles are kept."""
        (mean_t, std_t), (mean_s, std_s) = (self.marginal(expand_level(v, x), path) for v in (t, s))
        return mean_s + std_s / std_t * (x - mean_t)

    def log_density(self, x: Clip) -> Float[Tensor, " b"]:
        """Return ln p(x0) of whole clips, in nats."""
        z = (x - self.mean) / self.std
        return (-0.5 * z**2 - torch.as_tensor(self.std).log() - 0.5 * math.log(2.0 * math.pi)).flatten(1).sum(1)


@dataclass(frozen=True, kw_only=True)
class MixtureData:
    """Every number of a clip is drawn from a mixture of Gaussians, independent of the others."""

    weights: tuple[float, ...] = (0.3, 0.5, 0.2)
    means: tuple[float, ...] = (-1.2, 0.3, 1.4)
    stds: tuple[float, ...] = (0.25, 0.35, 0.15)

    def _columns(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(like.new_tensor(values) for values in (self.weights, self.means, self.stds))

    def denoiser(self, path: ProbabilityPath) -> Denoiser:
        """Return E[x0 | x_t]: each component's own, weighted by how probable the component is given x_t."""

        def denoise(x: Clip, t: Tensor) -> Clip:
            level, x = expand_level(t, x)[..., None], x[..., None]
            weights, means, stds = self._columns(x)
            alpha, variance = path.alpha(level), (path.alpha(level) * stds) ** 2 + path.sigma(level) ** 2
            offset = x - alpha * means
            share = (weights.log() - 0.5 * variance.log() - 0.5 * offset**2 / variance).softmax(-1)
            return (share * (means + alpha * stds**2 / variance * offset)).sum(-1)

        return denoise

    def moments(self) -> tuple[float, float, float]:
        """Return mean, standard deviation, and cube root of the third central moment: all in the data's unit."""
        parts = list(zip(self.weights, self.means, self.stds, strict=True))
        mean = sum(w * m for w, m, _ in parts)
        variance = sum(w * (s**2 + (m - mean) ** 2) for w, m, s in parts)
        third = sum(w * ((m - mean) ** 3 + 3.0 * (m - mean) * s**2) for w, m, s in parts)
        return mean, variance**0.5, math.copysign(abs(third) ** (1 / 3), third)

    def draw(self, n: int, generator: torch.Generator) -> Float[Tensor, " n"]:
        """Draw n numbers, float64."""
        weights, means, stds = self._columns(torch.empty(0, dtype=torch.float64))
        component = torch.multinomial(weights, n, replacement=True, generator=generator)
        return means[component] + stds[component] * torch.randn(n, dtype=torch.float64, generator=generator)


def moments_of(x: Tensor) -> tuple[float, float, float]:
    """Return the moments of `MixtureData.moments`, of numbers."""
    mean = x.mean()
    third = ((x - mean) ** 3).mean().item()
    return mean.item(), x.std(correction=0).item(), math.copysign(abs(third) ** (1 / 3), third)


def predicting(denoise: Denoiser, path: ProbabilityPath, prediction_type: str) -> Callable[[Clip, Tensor], Tensor]:
    """Return a network whose prediction is what an ideal denoiser says, as one of PREDICTION_TYPES."""
    target = find_prediction_type(prediction_type).target

    def network(scaled: Clip, t: Tensor) -> Tensor:
        level = expand_level(t, scaled)
        x, alpha, sigma = scaled / path.input_scale(level), path.alpha(level), path.sigma(level)
        x0 = denoise(x, t)
        return target(x0, (x - alpha * x0) / sigma, alpha, sigma)

    return network


def through_network(denoise: Denoiser, path: ProbabilityPath, prediction_type: str) -> Denoiser:
    """Return the same denoiser by way of a network's prediction of that kind."""
    return make_denoiser(predicting(denoise, path, prediction_type), path, prediction_type)


def even_normal(shape: tuple[int, ...]) -> Float[Tensor, ...]:
    """Return evenly spaced quantiles of N(0, 1), in float64: the distribution without the error of drawing."""
    n = math.prod(shape)
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return (math.sqrt(2.0) * torch.erfinv(2.0 * u - 1.0)).reshape(shape)
