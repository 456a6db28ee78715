"""What solvers are made of: the step that holds x0 and eps, the loop over levels, and the stop at a broken estimate.

On a path x_t = alpha x0 + sigma eps, the step from t to s that holds x0 and eps is
x_s = r x_t + (alpha_s - r alpha_t) x0, r = sigma_s / sigma_t (Song et al. 2021, DDIM, eq. 12 with eta = 0); on the flow
path this is Euler's method.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser

Clip = Float[Tensor, "b c t h w"]
Times = Float[Tensor, " n_plus_1"] | Float[Tensor, "n_plus_1 b f"]
Callback = Callable[[int, Tensor, Tensor], Tensor | None]
Evaluate = Callable[[Tensor, Tensor], Tensor]  # a denoiser whose estimates are known to be finite
Step = Callable[[Tensor, Tensor, Tensor, Tensor, Evaluate], Tensor]


class SamplingError(VidgenError):
    """Sampling that cannot go on; `latents` holds the clips as they were before the step that broke off."""

    def __init__(self, line: str, latents: Tensor) -> None:
        super().__init__(line)
        self.latents = latents


def transfer(x: Clip, x0: Clip, t: Tensor, s: Tensor, path: ProbabilityPath) -> Clip:
    """Return x after the step from level t to level s that holds x0 and eps. Clean frames (sigma_t 0) stay."""
    t, s = expand_level(t, x), expand_level(s, x)
    clean = path.sigma(t) == 0
    ratio = torch.where(
        clean, torch.ones_like(t), path.sigma(s) / torch.where(clean, torch.ones_like(t), path.sigma(t))
    )
    return ratio * x + (path.alpha(s) - ratio * path.alpha(t)) * x0


def noise_of(x: Clip, x0: Clip, t: Tensor, path: ProbabilityPath) -> Clip:
    """Return eps of x_t = alpha x0 + sigma eps; zero where sigma is zero."""
    t = expand_level(t, x)
    sigma = path.sigma(t)
    clean = sigma == 0
    return torch.where(clean, torch.zeros_like(x), (x - path.alpha(t) * x0) / torch.where(clean, 1.0, sigma))


def log_ratio(t: Tensor, path: ProbabilityPath) -> Tensor:
    """Return ln(alpha / sigma) in float64: half the log signal-to-noise ratio, infinite at the path's ends."""
    t = t.double()
    return path.alpha(t).log() - path.sigma(t).log()


def finite_or(value: Tensor, otherwise: float) -> Tensor:
    """Return `value`, and `otherwise` where the ends of a path made it infinite or undefined."""
    return torch.where(torch.isfinite(value), value, torch.full_like(value, otherwise))


def check_finite(x0: Clip, x: Clip, t: Tensor, step: int, steps: int) -> Clip:
    """Return the estimate. Raises SamplingError, which names the step and keeps x, for NaN and infinity."""
    if not torch.isfinite(x0).all():
        raise SamplingError(
            f"the denoiser gave NaN or infinity at step {step + 1} of {steps} (noise level {t.max().item():.3g}); "
            "try float32 weights",
            x,
        )
    return x0


def march(denoise: Denoiser, x: Clip, times: Times, callback: Callback | None, step: Step) -> Clip:
    """Return x after `step(x, x0, t, s, evaluate)` over each pair of neighboring levels.

    x0 is the estimate at the start; `evaluate` gives further ones. `callback(step, x, x0)` sees the end of each step,
    and may change it, see `end_step`.
    """
    steps = len(times) - 1
    for i, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):

        def evaluate(y: Clip, level: Tensor, i: int = i, start: Clip = x) -> Clip:
            return check_finite(denoise(y, level), start, level, i, steps)

        x0 = evaluate(x, t)
        x = end_step(callback, i, step(x, x0, t, s, evaluate), x0)
    return x


def end_step(callback: Callback | None, step: int, x: Clip, x0: Clip) -> Clip:
    """Return the clips that a run goes on with after a step: those that the callback returns, or else x."""
    changed = None if callback is None else callback(step, x, x0)
    return changed if isinstance(changed, Tensor) else x


def ode_solver(make_step: Callable[[ProbabilityPath], Step]) -> Callable[..., Clip]:
    """Return the deterministic solver of a step, `make_step(path)`, which is made anew for each run.

    Its arguments, as those of all solvers:

    Args:
        denoise: The denoiser, asked for x0 at every level.
        x: The clips at level times[0]; it is not written to.
        times: Noise levels, shared by all frames or one for each; frames that are clean stay as they are.
        path: That of the denoiser.
        generator: Noise of stochastic solvers; the others do without.
        callback: Called as (step, x, x0) after each step; clips that it returns take x's place.
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
    ) -> Clip:
        return march(denoise, x, times, callback, make_step(path))

    del sample.__wrapped__  # its signature is not the step's
    return sample
