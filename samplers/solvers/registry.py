"""Solvers by name. A new one is a function, and a line in SAMPLERS."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidgen.diffusion.paths import ProbabilityPath
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.adaptive import sample_rk45
from vidgen.samplers.solvers.euler import sample_euler, sample_heun
from vidgen.samplers.solvers.multistep import sample_dpmpp_2m, sample_dpmpp_3m, sample_unipc
from vidgen.samplers.solvers.runge_kutta import sample_midpoint, sample_rk4
from vidgen.samplers.solvers.stepping import Clip, Times
from vidgen.samplers.solvers.stochastic import sample_consistency, sample_dpmpp_2m_sde, sample_euler_ancestral


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A solver of the probability flow, or of the reverse SDE: `sample`, and what is claimed of it.

    `order` is that of convergence; of a stochastic solver, which draws noise at every step, the weak order, that of the
    distribution it reaches. `evaluations` of the denoiser are made a step; by rk45, an attempted step.
    """

    sample: Callable[..., Clip]
    order: int
    evaluations: int
    stochastic: bool = False

    def __call__(self, denoise: Denoiser, x: Clip, times: Times, path: ProbabilityPath, **settings: Any) -> Clip:
        """Return the clips that `x`, at the first of the levels `times`, becomes at the last; see `ode_solver`."""
        return self.sample(denoise, x, times, path, **settings)


SAMPLERS: dict[str, Solver] = {
    "euler": Solver(sample=sample_euler, order=1, evaluations=1),
    "heun": Solver(sample=sample_heun, order=2, evaluations=2),
    "midpoint": Solver(sample=sample_midpoint, order=2, evaluations=2),
    "rk4": Solver(sample=sample_rk4, order=4, evaluations=4),
    "rk45": Solver(sample=sample_rk45, order=5, evaluations=6),
    "dpmpp_2m": Solver(sample=sample_dpmpp_2m, order=2, evaluations=1),
    "dpmpp_3m": Solver(sample=sample_dpmpp_3m, order=3, evaluations=1),
    "unipc": Solver(sample=sample_unipc, order=3, evaluations=1),
    "euler_ancestral": Solver(sample=sample_euler_ancestral, order=1, evaluations=1, stochastic=True),
    "dpmpp_2m_sde": Solver(sample=sample_dpmpp_2m_sde, order=2, evaluations=1, stochastic=True),
}

# Of students that were distilled to few steps: nothing converges to the data by them with any other denoiser.
FEW_STEP_SAMPLERS: dict[str, Solver] = {
    "consistency": Solver(sample=sample_consistency, order=0, evaluations=1, stochastic=True),
}

# What others call them, in letters and digits alone; schedules ("karras") are the time distribution's business here.
OTHER_NAMES = {
    "ddim": "euler", "flowmatcheuler": "euler", "flowmatcheulerdiscrete": "euler", "eulerdiscrete": "euler",
    "eulera": "euler_ancestral", "eulerancestraldiscrete": "euler_ancestral", "ddpm": "euler_ancestral",
    "dpmsolver": "dpmpp_2m", "dpmsolvermultistep": "dpmpp_2m", "dpm2m": "dpmpp_2m", "dpmpp": "dpmpp_2m",
    "dpm3m": "dpmpp_3m", "dpm2msde": "dpmpp_2m_sde", "dpmppsde": "dpmpp_2m_sde", "unipcmultistep": "unipc",
    "unipcbh2": "unipc", "lcm": "consistency", "flowmatchlcm": "consistency",
    "heundiscrete": "heun", "dopri5": "rk45", "rungekutta4": "rk4",
}  # fmt: skip


def find_solver(sampler: str | Callable[..., Clip]) -> Callable[..., Clip]:
    """Return the solver of that name, or the solver itself. Raises VidgenError for a name that is unknown."""
    if callable(sampler):
        return sampler
    samplers = SAMPLERS | FEW_STEP_SAMPLERS
    if sampler not in samplers:
        here = OTHER_NAMES.get(re.sub(r"[^a-z0-9]", "", sampler.lower()))
        means = f"here it is called {here}" if here else f"choose one of {', '.join(samplers)}"
        raise VidgenError(f"sampler {sampler!r} is unknown; {means}")
    return samplers[sampler]


def __getattr__(name: str) -> Any:
    """Return one of the tables that SAMPLERS took in, with a warning. Raises AttributeError for any other name."""
    if name not in ("EVALUATIONS", "ORDERS", "STOCHASTIC"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    field = {"EVALUATIONS": "evaluations", "ORDERS": "order", "STOCHASTIC": "stochastic"}[name]
    warnings.warn(f"{name} is now a field of each solver: SAMPLERS[name].{field}", FutureWarning, stacklevel=2)
    table = {key: getattr(solver, field) for key, solver in SAMPLERS.items()}
    return tuple(key for key, value in table.items() if value) if name == "STOCHASTIC" else table
