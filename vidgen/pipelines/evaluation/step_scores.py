"""What a solver is worth on a real model: adherence against the number of function evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from vidgen.diffusion.paths import ProbabilityPath
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.pipelines.evaluation.adherence import LabeledPrompt, score_generation
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.solvers.adaptive import sample_rk45
from vidgen.samplers.solvers.registry import SAMPLERS
from vidgen.samplers.solvers.stepping import Clip

ADAPTIVE = "rk45"  # has a tolerance in place of steps


@dataclass(frozen=True, kw_only=True)
class Effort:
    """A solver by name, with so many steps, or to such a tolerance."""

    sampler: str
    steps: int | None = None
    tolerance: float | None = None


class Counting:
    """A solver that counts the evaluations of the denoiser that it is given; a guided one is one evaluation."""

    def __init__(self, effort: Effort) -> None:
        self.evaluations = self.runs = 0
        self.solver = SAMPLERS[effort.sampler]
        if effort.tolerance is not None:
            self.solver = partial(sample_rk45, rtol=effort.tolerance, atol=effort.tolerance)

    def __call__(self, denoise: Denoiser, x: Clip, times: Tensor, path: ProbabilityPath, **streams: Any) -> Clip:
        """Return the solver's clips, and count."""

        def counted(y: Clip, t: Tensor) -> Clip:
            self.evaluations += 1
            return denoise(y, t)

        self.runs += 1
        return self.solver(counted, x, times, path, **streams)

    @property
    def mean(self) -> float:
        """The evaluations of a run, in the mean."""
        return self.evaluations / self.runs


def plan_efforts(names: Sequence[str], budgets: Sequence[int], tolerances: Sequence[float]) -> list[Effort]:
    """Return for each solver the most steps that each budget of evaluations pays for, without repetition.

    For the adaptive one it is the tolerances. Raises VidgenError for names that are no solvers, and for budgets and
    tolerances that are none.
    """
    if unknown := [name for name in names if name not in SAMPLERS]:
        raise VidgenError(f"sampler {unknown[0]!r} is unknown; choose of {', '.join(SAMPLERS)}")
    if not budgets or min(budgets) < 1:
        raise VidgenError(f"budgets of evaluations are {list(budgets)}; each must be 1 or more")
    if any(not 0.0 < tolerance < 1.0 for tolerance in tolerances):
        raise VidgenError(f"tolerances are {list(tolerances)}; each must lie between 0 and 1")
    efforts = []
    for name in names:
        if name == ADAPTIVE:
            efforts += [Effort(sampler=name, tolerance=tolerance) for tolerance in sorted(tolerances, reverse=True)]
            continue
        steps = sorted({budget // SAMPLERS[name].evaluations for budget in budgets} - {0})
        efforts += [Effort(sampler=name, steps=count) for count in steps]
    return efforts


def score_efforts(
    pipe: VideoPipeline, prompts: Sequence[LabeledPrompt], efforts: Sequence[Effort], **settings: Any
) -> Iterator[dict[str, Any]]:
    """Yield a row an effort, as they are done. All see the same prompts and the same first noise.

    It is `summarize` without its clips, with `sampler`, `steps`, `tolerance` and the measured `evaluations` a clip.
    `settings` go to `score_generation`. An adaptive solver goes on for a whole batch until its slowest clip is done,
    and its evaluations are those of the batch.
    """
    for effort in efforts:
        solver = Counting(effort)
        report = score_generation(pipe, prompts, sampler=solver, num_inference_steps=effort.steps, **settings)
        scores = {name: value for name, value in report.items() if name != "clips"}
        yield {**vars(effort), "evaluations": solver.mean, **scores}


def cheapest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of fewest evaluations whose interval reaches the share of the best."""
    best = max(row["all"] for row in rows)
    return min((row for row in rows if row["ci"]["all"][1] >= best), key=lambda row: row["evaluations"])
