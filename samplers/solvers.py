"""Solvers: from noise to data with a denoiser, written with alpha and sigma alone, so each works on every path.

On a path x_t = alpha x0 + sigma eps, the step from t to s that holds x0 and eps is
x_s = r x_t + (alpha_s - r alpha_t) x0, r = sigma_s / sigma_t (Song et al. 2021, DDIM, eq. 12 with eta = 0); on the flow
path this is Euler's method.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.denoiser import Denoiser
from vidgen.errors import VidgenError
from vidgen.paths import Path, expand_level

Clip = Float[Tensor, "b c t h w"]
Times = Float[Tensor, " n_plus_1"] | Float[Tensor, "n_plus_1 b f"]
Callback = Callable[[int, Tensor, Tensor], None]


def transfer(x: Clip, x0: Clip, t: Tensor, s: Tensor, path: Path) -> Clip:
    """The step from level t to level s with x0 and eps held. Frames that are clean already (sigma_t 0) stay."""
    t, s = expand_level(t, x), expand_level(s, x)
    clean = path.sigma(t) == 0
    ratio = torch.where(
        clean, torch.ones_like(t), path.sigma(s) / torch.where(clean, torch.ones_like(t), path.sigma(t))
    )
    return ratio * x + (path.alpha(s) - ratio * path.alpha(t)) * x0


def noise_of(x: Clip, x0: Clip, t: Tensor, path: Path) -> Clip:
    """eps of x_t = alpha x0 + sigma eps; zero where sigma is zero."""
    t = expand_level(t, x)
    sigma = path.sigma(t)
    clean = sigma == 0
    return torch.where(clean, torch.zeros_like(x), (x - path.alpha(t) * x0) / torch.where(clean, 1.0, sigma))


def check_finite(x0: Clip, step: int, steps: int) -> Clip:
    if not torch.isfinite(x0).all():
        raise VidgenError(f"the denoiser gave NaN or infinity at step {step + 1} of {steps}; try float32 weights")
    return x0


def sample_euler(
    denoise: Denoiser,
    x: Clip,
    times: Times,
    path: Path,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Clip:
    """First order: holds the x0 of the step's start. `callback(step, x, x0)` sees each step; `x` is not written to."""
    steps = len(times) - 1
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        x0 = check_finite(denoise(x, t), i, steps)
        x = transfer(x, x0, t, s, path)
        if callback is not None:
            callback(i, x, x0)
    return x


def sample_heun(
    denoise: Denoiser,
    x: Clip,
    times: Times,
    path: Path,
    *,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Clip:
    """Second order: an Euler step, then the trapezoid rule for dx = x0 dalpha + eps dsigma over both of its ends.

    Heun's method as in Karras et al. 2022, algorithm 1, for any path; on the flow path it averages the velocities.
    Two evaluations a step, one in steps that end at t = 0, where x0 itself is the result: so, too, for each frame that
    has a level of its own.
    """
    steps = len(times) - 1
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        x0 = check_finite(denoise(x, t), i, steps)
        predicted = transfer(x, x0, t, s, path)
        if (s > 0).any():
            x0_end = check_finite(denoise(predicted, s), i, steps)
            eps = 0.5 * (noise_of(x, x0, t, path) + noise_of(predicted, x0_end, s, path))
            start, end = expand_level(t, x), expand_level(s, x)
            x0 = torch.where(end > 0, 0.5 * (x0 + x0_end), x0)
            corrected = x + (path.alpha(end) - path.alpha(start)) * x0 + (path.sigma(end) - path.sigma(start)) * eps
            predicted = torch.where(end > 0, corrected, predicted)
        x = predicted
        if callback is not None:
            callback(i, x, x0)
    return x


SAMPLERS: dict[str, Callable[..., Clip]] = {"euler": sample_euler, "heun": sample_heun}
EVALUATIONS = {"euler": 1, "heun": 2}  # network evaluations a step
