"""Errors of solvers on the schedules that are used, at the numbers of steps that are paid for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import PATHS, EDMPath, FlowPath, ProbabilityPath
from vidgen.samplers.evaluation.closed_forms import GaussianData, MixtureData, even_normal
from vidgen.samplers.evaluation.convergence import even_steps
from vidgen.samplers.solvers.multistep import Weights, scaled, step_moments
from vidgen.samplers.solvers.registry import SAMPLERS
from vidgen.samplers.solvers.runge_kutta import path_radius
from vidgen.samplers.solvers.stepping import Clip, Evaluate, Step, log_ratio, ode_solver, transfer

STEPS = (5, 10, 20, 50)
STDS = (0.05, 0.15, 0.3, 0.6, 0.9, 1.3)
EXACT_STEPS = 600  # of the fourth-order method, which says where a mixture's flow ends to about 1e-5


def karras_levels(n: int) -> Float[Tensor, " n_plus_1"]:
    """Return the levels of Karras et al. 2022, eq. 5 (80 to 0.002, rho 7), and clean data after them."""
    path = EDMPath()
    roots = even_steps(path.sigma_max ** (1.0 / path.rho), path.sigma_min ** (1.0 / path.rho), max(n - 1, 1))[:n]
    sigma = roots**path.rho
    levels = path.level(torch.ones_like(sigma), sigma).clamp(max=1.0)
    return torch.cat([levels, levels.new_zeros(1)])


# By name: the path, and the levels of n steps.
SCHEDULES: dict[str, tuple[Callable[[], ProbabilityPath], Callable[[int], Tensor]]] = {
    "karras": (EDMPath, karras_levels),
    "flow": (FlowPath, TimeDistribution().steps),
    "flow, shift 3": (FlowPath, TimeDistribution(shift=3.0).steps),
    "cosine": (PATHS["cosine"], TimeDistribution(path="cosine").steps),
}
DATA: dict[str, GaussianData | MixtureData] = {
    "Gaussians": GaussianData(std=torch.tensor(STDS, dtype=torch.float64).reshape(1, -1, 1, 1, 1)),
    "three modes": MixtureData(),
    "two modes": MixtureData(weights=(0.5, 0.5), means=(-0.8, 0.8), stds=(0.1, 0.1)),
}


@ode_solver
def sample_usual_3m(path: ProbabilityPath) -> Step:
    """Sample by the usual form of DPM-Solver++(3M): half of the parabola's second difference, a first step of order 1.

    It stands here to be compared with (k-diffusion's without noise, diffusers' from 15 steps on).
    """
    history: deque[tuple[Weights, Clip]] = deque(maxlen=2)

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        now, h = log_ratio(t, path), log_ratio(s, path) - log_ratio(t, path)
        first, second = step_moments(h)
        mean = x0
        if history:
            r0, before = (now - history[0][0]) / h, history[0][1]
            slope = scaled(1.0 / r0, x0 - before)
            mean = x0 + scaled(first, slope)
            if len(history) == 2:
                r1 = (history[0][0] - history[1][0]) / h
                bend = scaled(1.0 / (r0 + r1), slope - scaled(1.0 / r1, before - history[1][1]))
                mean = mean + scaled(0.5 * second + r0 * first, bend)
        history.appendleft((now, x0))
        return transfer(x, mean, t, s, path)

    return step


def start(name: str, path: ProbabilityPath, level: Tensor) -> Clip:
    """Return evenly spaced quantiles of what a run over some data starts from."""
    data = DATA[name]
    if isinstance(data, GaussianData):
        mean, std = data.marginal(level, path)
        return mean + std * even_normal((1, 1, 1, 8, 8))
    return path_radius(level, path) * even_normal((1, 1, 1, 8, 8))


@cache
def destination(name: str, schedule: str) -> Clip:
    """Return where the probability flow carries them."""
    data, (make_path, levels) = DATA[name], SCHEDULES[schedule]
    path = make_path()
    times = levels(EXACT_STEPS)
    x = start(name, path, times[0])
    if isinstance(data, GaussianData):
        return data.carry(x, times[0], times[-1], path)
    return SAMPLERS["rk4"](data.denoiser(path), x, times, path)


def practical_error(solve: Callable[..., Clip], name: str, schedule: str, steps: int) -> float:
    """Return the root mean square distance from there after so many steps; noise that is drawn has a fixed seed."""
    make_path, levels = SCHEDULES[schedule]
    path, times = make_path(), levels(steps)
    generator = torch.Generator().manual_seed(0)
    out = solve(DATA[name].denoiser(path), start(name, path, times[0]), times, path, generator=generator)
    return (out - destination(name, schedule)).square().mean().sqrt().item()


def practical_errors(
    solvers: Iterable[str | Callable[..., Clip]], steps: Sequence[int] = STEPS
) -> list[dict[str, Any]]:
    """Return one row a solver and schedule: `errors` by number of steps, over all data (root mean square)."""
    rows = []
    for solver in solvers:
        solve = SAMPLERS[solver] if isinstance(solver, str) else solver
        for schedule in SCHEDULES:
            errors = {}
            for n in steps:
                each = torch.tensor([practical_error(solve, name, schedule, n) for name in DATA])
                errors[n] = each.square().mean().sqrt().item()
            name = solver if isinstance(solver, str) else solver.__name__
            rows.append({"name": name, "schedule": schedule, "errors": errors})
    return rows
