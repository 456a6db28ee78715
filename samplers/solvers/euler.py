"""Euler's and Heun's methods in alpha and sigma."""

from __future__ import annotations

import torch
from torch import Tensor

from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.samplers.solvers.stepping import Clip, Evaluate, Step, noise_of, ode_solver, transfer


@ode_solver
def sample_euler(path: ProbabilityPath) -> Step:
    """Sample to first order: hold the x0 of the step's start (DDIM)."""
    return lambda x, x0, t, s, evaluate: transfer(x, x0, t, s, path)


@ode_solver
def sample_heun(path: ProbabilityPath) -> Step:
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
        change = (path.alpha(end) - path.alpha(start)) * 0.5 * (x0 + x0_end)
        corrected = x + change + (path.sigma(end) - path.sigma(start)) * eps
        return torch.where(end > 0, corrected, predicted)

    return step
