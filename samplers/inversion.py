"""The probability flow the other way: the noise of a clip, and how probable the clip is."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import Generators, draw_like
from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.registry import SAMPLERS
from vidgen.samplers.solvers.runge_kutta import RK4, angle_slope, combine, path_angle, path_radius
from vidgen.samplers.solvers.stepping import Callback, Clip, Times

# Clean data says nothing of eps, so the way starts beside it. For a smooth density, x there differs from alpha x0 by
# the order of sigma^2.
NEAR_CLEAN = 1e-3


def rising(times: Times) -> Times:
    """Return the levels of a sampling run from data to noise, 0 replaced by NEAR_CLEAN."""
    return times.flip(0).clamp(min=NEAR_CLEAN)


def invert(
    denoise: Denoiser,
    x: Clip,
    times: Times,
    path: ProbabilityPath,
    *,
    sampler: str = "rk4",
    callback: Callback | None = None,
) -> Clip:
    """Return the noise x_1 from which the probability flow arrives at the clip x: DDIM inversion by any ODE solver.

    Sampling the result gives back the clip up to both solvers' errors (Song et al. 2021, DDIM, section 5.4). Raises
    ValueError for a stochastic solver, which has no way back.

    Args:
        denoise: The denoiser.
        x: Clean clips.
        times: Those of sampling, from 1 down to 0.
        path: That of the denoiser.
        sampler: One of SAMPLERS that draws no noise.
        callback: As of `ode_solver`.
    """
    names = [name for name, solver in SAMPLERS.items() if not solver.stochastic]
    if sampler not in names:
        raise ValueError(f"inversion by {sampler!r}: choose one of {', '.join(names)}, which draw no noise")
    times = rising(times)
    return SAMPLERS[sampler](denoise, path.alpha(expand_level(times[0], x)) * x, times, path, callback=callback)


def log_likelihood(
    denoise: Denoiser,
    x: Clip,
    times: Times,
    path: ProbabilityPath,
    *,
    generator: Generators | None = None,
    probes: int = 1,
) -> Float[Tensor, " b"]:
    """Return ln p(x) of whole clips under the model, in nats (Song et al. 2021, score SDE, eq. 39; Chen et al. 2018).

    x goes to noise by the fourth-order Runge-Kutta method in the angle of the path, and with it the divergence of its
    velocity, an estimate that is exact where the Jacobian of the denoiser is diagonal, unbiased else. The density is at
    level NEAR_CLEAN, where data are blurred by a thousandth of the noise.

    Args:
        denoise: It must allow gradients with respect to x: call outside torch.inference_mode.
        x: Clean clips.
        times: Levels of sampling, from 1 down to 0.
        path: That of the denoiser.
        generator: Of the probes, one a clip.
        probes: Vectors of random signs a clip (Hutchinson 1989) that the divergence is estimated with.
    """
    times = rising(times)
    signs = [draw_like(x, generator).sign() for _ in range(probes)]
    y = path.alpha(expand_level(times[0], x)) * x / path_radius(expand_level(times[0], x), path)
    numbers = x[0].numel()
    total = -numbers * path_radius(times[0], path).log().expand(len(x)).to(x)  # x to y changes the density by this
    total = total + numbers * path.alpha(times[0]).log().to(x)
    for t, s in zip(times[:-1], times[1:], strict=True):
        start, length = path_angle(t, path), path_angle(s, path) - path_angle(t, path)
        slopes, divergences = [], []
        for node, row in zip(RK4.nodes, RK4.rows, strict=True):
            theta = start + node * length
            inner = y + length.to(y) * combine(slopes, row) if slopes else y
            slope, divergence = slope_and_divergence(denoise, inner, theta, path, signs)
            slopes.append(slope)
            divergences.append(divergence)
        y = y + length.to(y) * combine(slopes, RK4.weights)
        total = total + length.to(y) * combine(divergences, RK4.weights)
    return total - 0.5 * (y.square().flatten(1).sum(1) + numbers * math.log(2.0 * math.pi))


def slope_and_divergence(
    denoise: Callable[[Tensor, Tensor], Tensor], y: Clip, theta: Tensor, path: ProbabilityPath, signs: list[Clip]
) -> tuple[Clip, Float[Tensor, " b"]]:
    """Return dy/dtheta at a shared angle, and the estimate of its divergence."""
    level = path.level(theta.cos(), theta.sin())
    radius, sine, cosine = (v.to(y) for v in (path_radius(level, path), theta.sin(), theta.cos()))
    with torch.enable_grad():
        inner = y.detach().requires_grad_(True)
        x0 = denoise(radius * inner, level)
        products = [torch.autograd.grad(x0, inner, sign, retain_graph=True)[0] for sign in signs]
    trace = sum((g * sign).flatten(1).sum(1) for g, sign in zip(products, signs, strict=True)) / len(signs)
    slope = angle_slope(y, x0.detach(), expand_level(theta, y))
    return slope, (cosine * y[0].numel() - trace) / sine
