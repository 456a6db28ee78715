"""Solvers of the reverse SDE: noise is taken away and, each step, some is drawn anew.

The variance that q(x_s | x_t, x0) leaves is sigma_s^2 (1 - q^2), q = alpha_t sigma_s / (sigma_t alpha_s) = exp(-h) for
a step of length h in ln(alpha / sigma) (Ho et al. 2020, eq. 7, on any path).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from vidgen.diffusion.noise import Generators, draw_like
from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.multistep import Weights, second_order_x0
from vidgen.samplers.solvers.stepping import Callback, Clip, Evaluate, Step, Times, log_ratio, march, noise_of

NoiseSampler = Callable[[Clip], Clip]  # a clip, whose shape, dtype and device the noise is to have


def sde_solver(make_step: Callable[[ProbabilityPath, float, NoiseSampler], Step]) -> Callable[..., Clip]:
    """Return the stochastic solver of a step; arguments as those of `ode_solver`, and two more.

    `eta` scales the noise that is drawn, 0 draws none. `generator`: one a sample, and a clip does not depend on its
    batch; `noise_sampler` draws in its place.
    """

    @wraps(make_step, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def sample(
        denoise: Denoiser,
        x: Clip,
        times: Times,
        path: ProbabilityPath,
        *,
        generator: Generators | None = None,
        callback: Callback | None = None,
        eta: float = 1.0,
        noise_sampler: NoiseSampler | None = None,
    ) -> Clip:
        noise_sampler = noise_sampler or (lambda like: draw_like(like, generator))
        return march(denoise, x, times, callback, make_step(path, eta, noise_sampler))

    del sample.__wrapped__  # its signature is not the step's
    return sample


def shrinkage(t: Tensor, s: Tensor, path: ProbabilityPath) -> tuple[Tensor, Tensor]:
    """Return q for expanded levels, and where the step moves at all: clean and waiting frames do not."""
    if bool((s > t).any()):
        raise ValueError("a stochastic solver goes from noise to data: its levels must not grow")
    moves = s < t
    q = path.alpha(t) * path.sigma(s) / (path.sigma(t) * path.alpha(s))
    return torch.where(moves, q, torch.ones_like(q)), moves


@sde_solver
def sample_euler_ancestral(path: ProbabilityPath, eta: float, noise_sampler: NoiseSampler) -> Step:
    """Sample to first order: x_s is drawn from q(x_s | x_t, x0) at the estimated x0. eta 0 is `sample_euler`.

    The ancestral sampling of DDPM (Ho et al. 2020, algorithm 2; Song et al. 2021, DDIM, eq. 16); on the EDM path,
    Euler's with the noise level split in two.
    """

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        start, end = expand_level(t, x), expand_level(s, x)
        q, moves = shrinkage(start, end, path)
        alpha, sigma = path.alpha(end), path.sigma(end)
        fresh = eta**2 * (1.0 - q**2)
        x_next = alpha * x0 + sigma * (1.0 - fresh).sqrt() * noise_of(x, x0, t, path)
        if bool((sigma > 0).any()):
            x_next = x_next + sigma * fresh.sqrt() * noise_sampler(x)
        return torch.where(moves, x_next, x)

    return step


@sde_solver
def sample_dpmpp_2m_sde(path: ProbabilityPath, eta: float, noise_sampler: NoiseSampler) -> Step:
    """Sample to second order in the distribution: SDE-DPM-Solver++(2M) (Lu et al. 2022, appendix on SDEs).

    eta 0 is `sample_dpmpp_2m`.
    """
    history: list[tuple[Weights, Clip]] = []

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        now, h = log_ratio(t, path), log_ratio(s, path) - log_ratio(t, path)
        mean = second_order_x0(x0, history[0][1], h, now - history[0][0]) if history else x0
        history[:] = [(now, x0)]
        start, end = expand_level(t, x), expand_level(s, x)
        q, moves = shrinkage(start, end, path)
        alpha, sigma = path.alpha(end), path.sigma(end)
        shrunk = q**eta * sigma / torch.where(moves, path.sigma(start), 1.0)
        x_next = shrunk * x + alpha * (1.0 - q ** (1.0 + eta)) * mean
        if bool((sigma > 0).any()):
            x_next = x_next + sigma * (1.0 - q ** (2.0 * eta)).sqrt() * noise_sampler(x)
        return torch.where(moves, x_next, x)

    return step


@sde_solver
def sample_consistency(path: ProbabilityPath, eta: float, noise_sampler: NoiseSampler) -> Step:
    """Sample with a student whose x0 is already a clip, and not the mean of many: noise is added to it anew.

    Multistep consistency sampling (Song et al. 2023, algorithm 1), as LCM and DMD2 sample. `eta` 0 keeps the noise that
    the student says, which is `sample_euler`. With a denoiser that was not distilled, clips lack variance.
    """

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        end = expand_level(s, x)
        _, moves = shrinkage(expand_level(t, x), end, path)
        noise = math.sqrt(1.0 - eta**2) * noise_of(x, x0, t, path)
        if bool((path.sigma(end) > 0).any()):
            noise = noise + eta * noise_sampler(x)
        return torch.where(moves, path.alpha(end) * x0 + path.sigma(end) * noise, x)

    return step
