"""Runge-Kutta methods in the angle of a path, where every path is the same rotation and has no singular end.

With theta = atan2(sigma, alpha), y = x_t / sqrt(alpha^2 + sigma^2) = cos(theta) x0 + sin(theta) eps, and the
probability flow is dy/dtheta = cos(theta) eps - sin(theta) x0 = (cos(theta) y - x0) / sin(theta): the v of Salimans &
Ho 2022, appendix D. Clips of unit variance hardly move in y, and 0 <= theta <= pi / 2 on every path.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.samplers.solvers.stepping import Clip, Evaluate, Step, ode_solver


@dataclass(frozen=True)
class Tableau:
    """An explicit Runge-Kutta method (Butcher's tableau): stage i at `nodes[i]` of the step, from slopes before it."""

    nodes: tuple[float, ...]
    rows: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]


MIDPOINT = Tableau((0.0, 1 / 2), ((), (1 / 2,)), (0.0, 1.0))
RALSTON = Tableau((0.0, 1 / 2, 3 / 4), ((), (1 / 2,), (0.0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9))  # third order
RK4 = Tableau((0.0, 1 / 2, 1 / 2, 1.0), ((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))


def path_angle(t: Tensor, path: ProbabilityPath) -> Tensor:
    """Return theta at level t, in radians: 0 is data, pi / 2 noise without data."""
    return torch.atan2(path.sigma(t), path.alpha(t))


def path_radius(level: Tensor, path: ProbabilityPath) -> Tensor:
    """Return x_t / y."""
    return torch.hypot(path.alpha(level), path.sigma(level))


def angle_slope(y: Clip, x0: Clip, theta: Float[Tensor, "b 1 f 1 1"]) -> Clip:
    """Return dy/dtheta; 0 in clean frames, where x_t says nothing of eps."""
    sine = theta.sin()
    clean = sine == 0
    return torch.where(clean, torch.zeros_like(y), (theta.cos() * y - x0) / torch.where(clean, 1.0, sine))


def combine(slopes: list[Clip], weights: tuple[float, ...]) -> Clip:
    """Return the weighted sum of slopes, those of weight 0 left out."""
    return sum(w * k for w, k in zip(weights, slopes, strict=False) if w)


def runge_kutta_step(
    x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate, path: ProbabilityPath, tableau: Tableau
) -> Clip:
    """Return x at level s by one step of `tableau`, `x0` being the estimate at x and t, its first stage."""
    start, end = path_angle(t, path), path_angle(s, path)
    wide_start, step = expand_level(start, x), expand_level(end - start, x)
    y = x / path_radius(expand_level(t, x), path)
    slopes = [angle_slope(y, x0, wide_start)]
    for node, row in zip(tableau.nodes[1:], tableau.rows[1:], strict=True):
        theta = start + node * (end - start)
        level = s if node == 1.0 else path.level(theta.cos(), theta.sin())
        inner = y + step * combine(slopes, row)
        x0 = evaluate(path_radius(expand_level(level, x), path) * inner, level)
        slopes.append(angle_slope(inner, x0, wide_start + node * step))
    x_next = path_radius(expand_level(s, x), path) * (y + step * combine(slopes, tableau.weights))
    return torch.where(step == 0, x, x_next)


@ode_solver
def sample_midpoint(path: ProbabilityPath) -> Step:
    """Sample to second order: the slope at the middle of the angle, two evaluations a step, no stage at t = 0."""

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        return runge_kutta_step(x, x0, t, s, evaluate, path, MIDPOINT)

    return step


@ode_solver
def sample_rk4(path: ProbabilityPath) -> Step:
    """Sample to fourth order: the classical method, four evaluations a step.

    Its last stage lies at the step's end. Where a frame becomes clean there, x_t says nothing of eps, so such a step
    is Ralston's of third order, three evaluations: its own error is of the order that others add up to.
    """

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        ends_clean = bool(((s == 0) & (t > 0)).any())
        return runge_kutta_step(x, x0, t, s, evaluate, path, RALSTON if ends_clean else RK4)

    return step
