"""Multistep solvers in half the log-SNR, lambda = ln(alpha / sigma): one evaluation a step, earlier ones used again.

The exact solution is x_s = (sigma_s / sigma_t) x_t + (alpha_s - alpha_t sigma_s / sigma_t) times a mean of x0 over the
step (Lu et al. 2022, DPM-Solver++, proposition 4.1), with density proportional to exp(lambda). A method is a choice of
polynomial for x0, and of its mean; what `transfer` is given in place of x0.

At the path's ends lambda is infinite: a step from alpha = 0 or onto sigma = 0 is of first order, and near them the
steps in lambda do not shrink with their number. So these methods have their order where lambda is finite; that of
`sample_dpmpp_3m` is in the path's angle, which is finite everywhere.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.samplers.solvers.runge_kutta import path_angle
from vidgen.samplers.solvers.stepping import (
    Clip,
    Evaluate,
    Step,
    finite_or,
    log_ratio,
    ode_solver,
    transfer,
)

QUADRATURE = np.polynomial.legendre.leggauss(16)
# Lengths of steps in ln(alpha / sigma) between which `sample_dpmpp_3m` gives up its parabola, and its line.
BEND = (2.0, 3.0)
SLOPE = (2.5, 3.5)

Weights = Float[Tensor, ""] | Float[Tensor, " b"] | Float[Tensor, "b f"]  # a number for each level


def scaled(weight: Weights, clip: Clip) -> Clip:
    """Return weight * clip, and 0 where the ends of a path leave the weight undefined."""
    return expand_level(finite_or(weight, 0.0), clip) * clip


def step_moments(h: Weights) -> tuple[Weights, Weights]:
    """Return the means of u and u^2 on [0, 1] under the density exp(h u) / Z: of a step of length h in lambda."""
    small = h.abs() < 1e-4  # where the closed form cancels; the next term of the series is below 1e-9
    safe = torch.where(small, torch.ones_like(h), h)
    total = -torch.expm1(-safe)
    first = (1.0 - total / safe) / total
    second = (1.0 - 2.0 * (1.0 - total / safe) / safe) / total
    return torch.where(small, 1 / 2 + h / 12, first), torch.where(small, 1 / 3 + h / 12, second)


def second_order_x0(x0: Clip, before: Clip, h: Weights, h_before: Weights) -> Clip:
    """Return x0 in the middle of the step by a line through the last two (Lu et al. 2022, DPM-Solver++(2M))."""
    return x0 + scaled(0.5 * h / h_before, x0 - before)


@ode_solver
def sample_dpmpp_2m(path: ProbabilityPath) -> Step:
    """Sample to second order: DPM-Solver++(2M) (Lu et al. 2022, algorithm 2), one evaluation a step."""
    history: deque[tuple[Weights, Clip]] = deque(maxlen=1)

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        now, h = log_ratio(t, path), log_ratio(s, path) - log_ratio(t, path)
        mean = second_order_x0(x0, history[0][1], h, now - history[0][0]) if history else x0
        history.appendleft((now, x0))
        return transfer(x, mean, t, s, path)

    return step


def angle_moments(start: Weights, end: Weights) -> tuple[Weights, Weights]:
    """Return the means of u and u^2 over a step between two angles, u being the share of the angle that is done.

    The exact mean of x0 is even in alpha / sigma, the cotangent of the angle. Undefined where a step ends at data.
    """
    first, last = start.cos() / start.sin(), end.cos() / end.sin()
    nodes, shares = (torch.from_numpy(values).to(first) for values in QUADRATURE)
    cotangent = first[..., None] + (last - first)[..., None] * 0.5 * (1.0 + nodes)
    u = (torch.atan2(torch.ones_like(cotangent), cotangent) - start[..., None]) / (end - start)[..., None]
    return (u * 0.5 * shares).sum(-1), (u**2 * 0.5 * shares).sum(-1)


def trust(h: Weights, bounds: tuple[float, float]) -> Weights:
    """Return 1 for steps of a length in ln(alpha / sigma) up to the first bound, 0 from the second on."""
    low, high = bounds
    return ((high - h.abs()) / (high - low)).clamp(0.0, 1.0)


@ode_solver
def sample_dpmpp_3m(path: ProbabilityPath) -> Step:
    """Sample to third order: the exact mean of a parabola through the last three x0, one evaluation a step.

    It is multistep DPM-Solver++ of order 3 (Lu et al. 2022, section 4.2) with the parabola in the path's angle in place
    of lambda: near both ends, where steps in lambda are long and unequal, x0 is smooth in the angle and not in lambda.
    Steps across which too much changes (`BEND` and `SLOPE`, in lambda) hold what they can
    trust: the line, then x0 alone, as the last step onto data does. The first step is gone through again once x0 at its
    end is known, which costs no evaluation. Common implementations weigh the second difference by half of the
    parabola's and start with a step of first order; they measure as of second order.
    """
    history: deque[tuple[Weights, Clip]] = deque(maxlen=2)  # angles and x0
    begun: list[tuple[Tensor, Clip]] = []  # level and x of the start, until the first step is corrected

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        now, end = path_angle(t.double(), path), path_angle(s.double(), path)
        if not history:
            begun.append((t, x))
        elif begun:
            level, x_past = begun.pop()
            first, _ = angle_moments(history[0][0], now)
            x = transfer(x_past, history[0][1] + scaled(first, x0 - history[0][1]), level, t, path)
        mean = x0
        if history:
            # Newton's form in u = (angle - now) / (end - now), whose nodes are 0, -r0 and -(r0 + r1)
            first, second = angle_moments(now, end)
            h = log_ratio(s, path) - log_ratio(t, path)
            r0, before = (now - history[0][0]) / (end - now), history[0][1]
            slope = scaled(1.0 / r0, x0 - before)
            mean = x0 + scaled(trust(h, SLOPE) * first, slope)
            if len(history) == 2:
                r1 = (history[0][0] - history[1][0]) / (end - now)
                share = torch.where(r1 == 0, 0.0, 1.0 / (r0 + r1))  # of frames that waited, two are one
                bend = scaled(share, slope - scaled(1.0 / r1, before - history[1][1]))
                mean = mean + scaled(trust(h, BEND) * (second + r0 * first), bend)
        history.appendleft((now, x0))
        return transfer(x, mean, t, s, path)

    return step


@ode_solver
def sample_unipc(path: ProbabilityPath) -> Step:
    """Sample to third order: UniPC-2 with B2(h) (Zhao et al. 2023, algorithms 1 and 2), one evaluation a step.

    The predictor is that of `sample_dpmpp_2m`. Once x0 is known at the step's end, which the next step needs anyway,
    the corrector goes through the step again, with a parabola through x0 at both ends and before.
    """
    # of the step before: level, lambda, corrected x and x0; and lambda and x0 of the one before that
    history: deque[tuple[Tensor, Weights, Clip, Clip]] = deque(maxlen=2)

    def correct(x: Clip, x0: Clip, t: Tensor) -> Clip:
        if not history:
            return x
        level, past, x_past, x0_past = history[0]
        h = log_ratio(t, path) - past
        first, second = step_moments(h)
        slope = x0 - x0_past
        if len(history) == 1:  # the trapezoid rule, as the paper's first step
            return transfer(x_past, x0_past + 0.5 * slope, level, t, path)
        r = (past - history[1][1]) / h
        bend = scaled(1.0 / (1.0 + r), slope - scaled(1.0 / r, x0_past - history[1][3]))
        mean = x0_past + scaled(first, slope) + scaled(second - first, bend)
        return transfer(x_past, mean, level, t, path)

    def step(x: Clip, x0: Clip, t: Tensor, s: Tensor, evaluate: Evaluate) -> Clip:
        x = correct(x, x0, t)
        now, h = log_ratio(t, path), log_ratio(s, path) - log_ratio(t, path)
        mean = second_order_x0(x0, history[0][3], h, now - history[0][1]) if history else x0
        history.appendleft((t, now, x, x0))
        return transfer(x, mean, t, s, path)

    return step
