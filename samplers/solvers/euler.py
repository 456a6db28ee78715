"""Euler's and Heun's methods in alpha and sigma."""

from __future__ import annotations

import torch
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.stepping import Callback, Clip, Evaluate, Times, march, noise_of, transfer


def sample_euler(
    denoise: Denoiser,
    x: Clip,
    times: Times,
    path: ProbabilityPath,
    *,
    generator: Generators | None = None,
    callback: Callback | None = None,
) -> Clip:
    """Sample to first order: hold the x0 of the step's start (DDIM).

    Args:
        denoise: The denoiser, asked for x0 at every level.
        x: The clips at level times[0]; it is not written to.
        times: Noise levels, shared by all frames or one for each; frames that are clean stay as they are.
        path: That of the denoiser.
        generator: Noise of stochastic solvers; of a list one a sample, so that no clip depends on its batch.
        callback: Called as (step, x, x0) after each step.
    """
    return march(denoise, x, times, callback, lambda x, x0, t, s, evaluate: transfer(x, x0, t, s, path))


def sample_heun(
    denoise: Denoiser,
    x: Clip,
    times: Times,
    path: ProbabilityPath,
    *,
    generator: Generators | None = None,
    callback: Callback | None = None,
) -> Clip:
    """Sample to second order: an Euler step, then the trapezoid rule for dx = x0 dalpha + eps dsigma over its ends.

    Heun's method as in Karras et al. 2022, algorithm 1, for any path; on the flow path it averages the velocities.
    Two evaluations a step, one in steps that end at t = 0, where x0 itself is the result: so, too, for each frame that
    has a level of its own.
    """

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        predicted = transfer(x, x0, t, s, path)
        if not (s > 0).any():
            return predicted
        x0_end = evaluate(predicted, s)
        eps = 0.5 * (noise_of(x, x0, t, path) + noise_of(predicted, x0_end, s, path))
        start, end = expand_level(t, x), expand_level(s, x)
        moved = (path.alpha(end) - path.alpha(start)) * 0.5 * (x0 + x0_end)
        corrected = x + moved + (path.sigma(end) - path.sigma(start)) * eps
        return torch.where(end > 0, corrected, predicted)

    return march(denoise, x, times, callback, step)
