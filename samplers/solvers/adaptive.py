"""Runge-Kutta with steps as long as a tolerance allows, each sample at its own pace."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.diffusion.paths import ProbabilityPath, expand_level
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.runge_kutta import Tableau, angle_slope, combine, path_angle, path_radius
from vidgen.samplers.solvers.stepping import Callback, Clip, Evaluate, SamplingError, Times, check_finite, transfer

# Dormand & Prince 1980, table 2: fifth order; its last stage is the next step's first.
DORMAND_PRINCE = Tableau(
    (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
# Fifth-order weights less those of the embedded fourth-order method: what the error is estimated from.
ERROR_WEIGHTS = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
SHORTEST = 1e-10  # of a span: a step below it means that the estimates are not smooth


@dataclass
class Span:
    """The way between two levels: each sample is at the share `done` of it, and tries a step of the share `step`."""

    start: Float[Tensor, "b f"]  # angles
    end: Float[Tensor, "b f"]
    done: Float[Tensor, " b"]
    step: Float[Tensor, " b"]

    def angle(self, share: Float[Tensor, " b"]) -> Float[Tensor, "b f"]:
        """Return the angles at a share of the way."""
        return self.start + share[:, None] * (self.end - self.start)


def level_of(theta: Float[Tensor, "b f"], path: ProbabilityPath) -> Tensor:
    """Return the levels of angles, (b,) where all frames share one."""
    return path.level(theta.cos(), theta.sin()).squeeze(1)


def wide(value: Float[Tensor, "b f"], x: Clip) -> Float[Tensor, "b 1 f 1 1"]:
    """Return angles shaped to broadcast over clips."""
    return expand_level(value.squeeze(1), x)


def error_norm(error: Clip, before: Clip, after: Clip, rtol: float, atol: float) -> Float[Tensor, " b"]:
    """Return the root mean square over a sample of error / tolerance: at most 1 is good enough."""
    tolerated = atol + rtol * torch.maximum(before.abs(), after.abs())
    return rearrange((error / tolerated).square(), "b c t h w -> b (c t h w)").mean(1).sqrt()


def advance(
    span: Span, y: Clip, slope: Clip, evaluate: Evaluate, path: ProbabilityPath, rtol: float, atol: float
) -> tuple[Clip, Clip]:
    """Return one attempt of every sample: y and its slope after it, unchanged where the error was too large."""
    step = torch.minimum(span.step, 1.0 - span.done)
    length = wide(step[:, None] * (span.end - span.start), y)

    def stage(share: Float[Tensor, " b"], inner: Clip) -> Clip:
        theta = span.angle(share)
        level = level_of(theta, path)
        x0 = evaluate(path_radius(expand_level(level, y), path) * inner, level)
        return angle_slope(inner, x0, wide(theta, y))

    slopes = [slope]
    for node, row in zip(DORMAND_PRINCE.nodes[1:], DORMAND_PRINCE.rows[1:], strict=True):
        slopes.append(stage(span.done + node * step, y + length * combine(slopes, row)))
    ended = y + length * combine(slopes, DORMAND_PRINCE.weights)
    slopes.append(stage(span.done + step, ended))
    error = error_norm(length * combine(slopes, ERROR_WEIGHTS), y, ended, rtol, atol).to(step)
    good = error <= 1.0
    arrived = step >= 1.0 - span.done  # exactly 1 then, whatever the rounding of the sum
    span.done = torch.where(good, torch.where(arrived, torch.ones_like(step), span.done + step), span.done)
    span.step = step * (0.9 * error.clamp(min=1e-12) ** -0.2).clamp(0.2, 5.0)
    good = rearrange(good, "b -> b 1 1 1 1").to(y.device)
    return torch.where(good, ended, y), torch.where(good, slopes[-1], slope)


def travel(
    x: Clip, t: Tensor, s: Tensor, first: float, evaluate: Evaluate, path: ProbabilityPath, rtol: float, atol: float
) -> Iterator[tuple[Clip, Clip, Float[Tensor, "b f"]]]:
    """Yield x, x0 and the angle after each attempt on the way from level t to level s, and at its end.

    `first` is the share of the way that the first attempt takes. Frames that become clean do so by a last Euler step,
    from an angle where its error, about angle^2 / (2 std^2) for data of that standard deviation, is far below `rtol`.
    """
    nearest = 0.1 * rtol**0.5
    t, s = (v.expand(len(x)) if v.ndim == 0 else v for v in (t, s))
    start, goal = (path_angle(v.reshape(len(x), -1), path) for v in (t, s))
    end = torch.where((goal == 0) & (start > nearest), torch.full_like(goal, nearest), goal)
    step = torch.full_like(start[:, 0], first)
    span = Span(start, end, torch.zeros_like(step), step)
    begun, y = x, x / path_radius(expand_level(t, x), path)
    slope = angle_slope(y, evaluate(x, t), wide(start, x))
    while bool((span.done < 1.0).any()):
        y, slope = advance(span, y, slope, evaluate, path, rtol, atol)
        if bool(((span.step < SHORTEST) & (span.done < 1.0)).any()):
            raise SamplingError("rk45 cannot reach its tolerance: estimates are not smooth; raise rtol and atol", x)
        theta = span.angle(span.done)
        x = path_radius(expand_level(level_of(theta, path), x), path) * y
        yield x, wide(theta, x).cos() * y - wide(theta, x).sin() * slope, theta
    x0, level = wide(end, x).cos() * y - wide(end, x).sin() * slope, level_of(end, path)
    if bool((end != goal).any()):
        x0 = evaluate(x, level)
        x = transfer(x, x0, level, level_of(goal, path), path)
    yield torch.where(wide(start, x) == wide(goal, x), begun, x), x0, goal


def sample_rk45(
    denoise: Denoiser,
    x: Clip,
    times: Times,
    path: ProbabilityPath,
    *,
    generator: Generators | None = None,
    callback: Callback | None = None,
    rtol: float = 1e-3,
    atol: float = 1e-3,
    most_evaluations: int = 10000,
) -> Clip:
    """Sample to fifth order with error control (Dormand & Prince 1980), in the path's angle.

    An attempted step takes six evaluations. Of levels that all frames share only the ends count, and their number says
    the first step; `callback` is called for each level that the slowest sample has passed, and cannot change x. Levels
    per frame are gone through pair by pair. Samples choose their steps each for itself, so a clip does not depend on
    its batch. Raises SamplingError, which keeps the clips as they are, after `most_evaluations`, and where no step is
    short enough.
    Other arguments as those of `ode_solver`.
    """
    steps = len(times) - 1
    evaluations = reported = 0
    shared = times.ndim == 1
    pairs = [(times[0], times[-1])] if shared else list(zip(times[:-1], times[1:], strict=True))
    levels = path_angle(times[1:], path)

    def evaluate(y: Clip, level: Tensor) -> Clip:
        nonlocal evaluations
        evaluations += 1
        if evaluations > most_evaluations:
            raise SamplingError(f"rk45 took more than {most_evaluations} evaluations; raise rtol and atol", x)
        return check_finite(denoise(y, level), x, level, reported, steps)

    def report(passed: int, x0: Clip) -> None:
        nonlocal reported
        if callback is not None:
            for i in range(reported, passed):
                callback(i, x, x0)
        reported = max(reported, passed)

    for number, (t, s) in enumerate(pairs):
        way = travel(x, t, s, 1.0 / steps if shared else 1.0, evaluate, path, rtol, atol)
        for x, x0, theta in way:  # noqa: B007 (x is what `evaluate` and `report` look at)
            if shared:  # as distances, since angles fall in sampling and rise in inversion
                distance = (theta - path_angle(t, path)).abs().min()
                report(int(((levels - path_angle(t, path)).abs() <= distance).sum()), x0)
        report(steps if shared else number + 1, x0)
    return x
