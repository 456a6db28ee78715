"""The order of convergence of each solver, measured, and how well each reaches a distribution."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.paths import PATHS, ProbabilityPath
from vidgen.diffusion.prediction_types import PREDICTION_TYPES
from vidgen.interfaces import Denoiser
from vidgen.samplers.evaluation.closed_forms import GaussianData, MixtureData, even_normal, moments_of, through_network
from vidgen.samplers.solvers.adaptive import DORMAND_PRINCE, sample_rk45
from vidgen.samplers.solvers.registry import SAMPLERS
from vidgen.samplers.solvers.runge_kutta import runge_kutta_step
from vidgen.samplers.solvers.stepping import Evaluate, march

STEPS = (64, 128, 256)
FEWER_STEPS = {"rk45": (16, 32, 64)}  # beyond them its errors are those of rounding
# Of the data, channel by channel: of any single one the error may change its sign on the way, and hide the order.
STDS = (0.15, 0.3, 0.6, 0.9, 1.3)
TOLERANCES = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11)  # of rk45, which chooses its steps
INNER_RATIO = 9.0  # alpha / sigma at the ends of the inner interval; on the flow path t from 0.9 to 0.1
HIGHEST = 0.999  # where the noise level starts for a network that predicts eps


class Counted:
    """A denoiser that counts how often it is asked."""

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise, self.count = denoise, 0

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.count += 1
        return self.denoise(x, t)


def inner_ends(path: ProbabilityPath) -> tuple[float, float]:
    """Return the levels between which ln(alpha / sigma) goes from -ln 9 to ln 9, whatever the path."""
    ratio = torch.tensor([1.0, INNER_RATIO], dtype=torch.float64)
    first, last = path.level(ratio, ratio.flip(0)).tolist()
    return first, last


def even_steps(first: float, last: float, n: int) -> Float[Tensor, " n_plus_1"]:
    """Return the ends of n even steps, float64."""
    return torch.linspace(first, last, n + 1, dtype=torch.float64)


def gaussians() -> GaussianData:
    """Return the data that orders are measured on: a channel of each of STDS."""
    return GaussianData(std=torch.tensor(STDS, dtype=torch.float64).reshape(1, -1, 1, 1, 1))


def deterministic_error(
    solve: Callable[..., Tensor],
    denoise: Denoiser,
    times: Tensor,
    path: ProbabilityPath,
    data: GaussianData,
    **settings: float,
) -> float:
    """Return the root mean square distance from where the probability flow carries evenly spaced quantiles of noise."""
    mean, std = data.marginal(times[0], path)
    x = mean + std * even_normal((1, 1, 1, 4, 4))
    off = solve(denoise, x, times, path, **settings) - data.carry(x, times[0], times[-1], path)
    return off.square().mean().sqrt().item()


def weak_error(
    solve: Callable[..., Tensor], denoise: Denoiser, times: Tensor, path: ProbabilityPath, data: GaussianData
) -> float:
    """Return how far mean and standard deviation are from the truth where a stochastic solver ends, root mean square.

    On Gaussian data a solver is linear in its start and in each noise, so its answers to each of these alone, one a
    row, give the distribution that it reaches exactly: nothing is drawn.
    """
    noises = len(times) - 1
    (mean, std), (mean_end, std_end) = (data.marginal(t, path) for t in (times[0], times[-1]))
    x = mean.expand(noises + 2, *std.shape[1:]).clone()
    x[1:2] += std
    count = 0

    def one_at_a_time(like: Tensor) -> Tensor:
        nonlocal count
        noise = torch.zeros_like(like)
        noise[2 + count] = 1.0
        count += 1
        return noise

    out = solve(denoise, x, times, path, noise_sampler=one_at_a_time)
    spread = (out[1:] - out[:1]).square().sum(0, keepdim=True).sqrt()
    return torch.stack([out[:1] - mean_end, spread - std_end]).square().mean().sqrt().item()


def measure_errors(
    name: str, path: ProbabilityPath, ends: tuple[float, float], steps: Sequence[int]
) -> list[list[float]]:
    """Return [[steps, error], ...] of a solver between two levels; of rk45, those of its tableau at even steps."""
    data, solve = gaussians(), dormand_prince if name == "rk45" else SAMPLERS[name]
    measure = weak_error if SAMPLERS[name].stochastic else deterministic_error
    return [[n, measure(solve, data.denoiser(path), even_steps(*ends, n), path, data)] for n in steps]


def dormand_prince(denoise: Denoiser, x: Tensor, times: Tensor, path: ProbabilityPath) -> Tensor:
    """Run the method of rk45 at steps that are fixed, for levels above 0."""

    def step(x: Tensor, x0: Tensor, t: Tensor, s: Tensor, evaluate: Evaluate) -> Tensor:
        return runge_kutta_step(x, x0, t, s, evaluate, path, DORMAND_PRINCE)

    return march(denoise, x, times, None, step)


def measure_tolerances(path: ProbabilityPath, tolerances: Sequence[float] = TOLERANCES) -> list[list[float]]:
    """Return [[evaluations, error], ...] of rk45 from noise to data as its tolerance falls."""
    data, rows = gaussians(), []
    for tolerance in tolerances:
        counted, settings = Counted(data.denoiser(path)), {"rtol": tolerance, "atol": tolerance}
        error = deterministic_error(sample_rk45, counted, even_steps(1.0, 0.0, 8), path, data, **settings)
        rows.append([counted.count, error])
    return rows


def fitted_order(rows: Sequence[Sequence[float]]) -> float:
    """Return the observed order: minus the slope of the line through (ln work, ln error), by least squares."""
    work, error = torch.tensor(rows, dtype=torch.float64).log().unbind(1)
    work = work - work.mean()
    return -((work * error).sum() / work.square().sum()).item()


def measure_orders(names: Iterable[str], steps: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Return one row a solver and path: name, path, claimed, measured, whole_run, evaluations (a step), errors.

    `measured` is the order between finite ends of ln(alpha / sigma), where orders are defined; `whole_run` that from
    pure noise to data in even steps of t (of rk45, in evaluations as its tolerance falls). Of stochastic solvers both
    are of the distribution that is reached.
    """
    rows = []
    for name in names:
        for kind in PATHS:
            path = PATHS[kind]()
            counts = steps or FEWER_STEPS.get(name, STEPS)
            inner = measure_errors(name, path, inner_ends(path), counts)
            whole = measure_tolerances(path) if name == "rk45" else measure_errors(name, path, (1.0, 0.0), counts)
            rows.append(
                {
                    "name": name,
                    "path": kind,
                    "claimed": SAMPLERS[name].order,
                    "measured": fitted_order(inner),
                    "whole_run": fitted_order(whole),
                    "evaluations": SAMPLERS[name].evaluations,
                    "stochastic": SAMPLERS[name].stochastic,
                    "errors": inner,
                    "whole_errors": whole,
                }
            )
    return rows


def moment_error(
    name: str, kind: str, prediction_type: str, *, steps: int, side: int = 64, seed: int = 0
) -> dict[str, Any]:
    """Return how far a solver is from the moments of a mixture of Gaussians: one cell of the matrix.

    `errors` are those of mean, standard deviation and root of the third moment; `error` the largest. The first noise
    lies at even quantiles; what stochastic solvers draw, `side`^2 numbers a step, leaves an error of drawing.

    Args:
        name: The solver, of SAMPLERS.
        kind: The path, of PATHS.
        prediction_type: What the network predicts, of PREDICTION_TYPES.
        steps: Of the solver.
        side: Of the clip, whose numbers are the sample.
        seed: Of the noise.
    """
    data, path = MixtureData(), PATHS[kind]()
    counted = Counted(through_network(data.denoiser(path), path, prediction_type))
    times = even_steps(HIGHEST if prediction_type == "epsilon" else 1.0, 0.0, steps)
    order = torch.randperm(side**2, generator=torch.Generator().manual_seed(seed))
    noise = even_normal((side**2,))[order].reshape(1, 1, 1, side, side)
    start = torch.hypot(path.alpha(times[0]), path.sigma(times[0])) * noise
    out = SAMPLERS[name](counted, start, times, path, generator=torch.Generator().manual_seed(seed))
    errors = [abs(a - b) for a, b in zip(moments_of(out), data.moments(), strict=True)]
    return {
        "objective": prediction_type,
        "path": kind,
        "solver": name,
        "evaluations": counted.count,
        "errors": errors,
        "error": max(errors),
    }


def moment_matrix(names: Iterable[str], *, steps: int) -> list[dict[str, Any]]:
    """Return `moment_error` of every objective, path and solver."""
    return [
        moment_error(name, kind, prediction_type, steps=steps)
        for name in names
        for kind in PATHS
        for prediction_type in PREDICTION_TYPES
    ]
