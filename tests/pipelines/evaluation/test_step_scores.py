"""Steps: budgets become steps, evaluations are counted as they happen, and a row is what generation scores."""

import pytest
import torch

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import FlowPath
from vidgen.errors import VidgenError
from vidgen.pipelines.evaluation.adherence import held_out_prompts, score_generation
from vidgen.pipelines.evaluation.step_scores import ADAPTIVE, Counting, Effort, cheapest, plan_efforts, score_efforts
from vidgen.samplers.evaluation.closed_forms import GaussianData
from vidgen.samplers.solvers import SAMPLERS

schedule = TimeDistribution().steps

FAST = dict(num_frames=5, height=16, width=16, guidance_scale=2.0)


def test_budgets_become_steps_and_tolerances_stay():
    efforts = plan_efforts(["euler", "rk4", "rk45"], [16, 3, 8], [0.01, 0.1])
    assert [(e.sampler, e.steps, e.tolerance) for e in efforts] == [
        *[("euler", steps, None) for steps in (3, 8, 16)],
        *[("rk4", steps, None) for steps in (2, 4)],  # three evaluations pay for no step
        *[("rk45", None, tolerance) for tolerance in (0.1, 0.01)],
    ]
    assert [e.steps for e in plan_efforts(["rk4"], [8, 9, 11], [])] == [2]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != ADAPTIVE])
def test_evaluations_are_those_that_a_solver_claims(name):
    solver, data = Counting(Effort(sampler=name, steps=6)), GaussianData()
    x = torch.randn(1, 1, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    streams = {"generator": [torch.Generator().manual_seed(1)]}
    for _ in range(2):
        solver(data.denoiser(FlowPath()), x, schedule(6), FlowPath(), **streams)
    last = {"heun": 1, "rk4": 1}.get(name, 0)  # the step onto clean data takes one less
    assert solver.mean == 6 * SAMPLERS[name].evaluations - last


def test_a_tolerance_is_kept_to():
    data, x = GaussianData(), torch.ones(1, 1, 1, 1, 1, dtype=torch.float64)
    ends = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    found = []
    for tolerance in (1e-1, 1e-4):
        solver = Counting(Effort(sampler=ADAPTIVE, tolerance=tolerance))
        out = solver(data.denoiser(FlowPath()), x, schedule(4), FlowPath())
        error = (out - data.carry(x, *ends, FlowPath())).abs().item()
        found.append((error, solver.mean))
    assert found[1][0] < min(2e-3, found[0][0]) and found[1][1] > found[0][1]


def test_a_row_is_what_generation_scores(pipe):
    asked = held_out_prompts(ShapeWorld(ShapeWorldConfig(height=16, width=16, num_frames=5, split="held_out")), 3)
    efforts = [Effort(sampler="heun", steps=2), Effort(sampler="rk45", tolerance=0.5)]
    rows = list(score_efforts(pipe, asked, efforts, seed=1, batch_size=2, **FAST))
    plain = score_generation(pipe, asked, seed=1, sampler="heun", num_inference_steps=2, **FAST)
    assert rows[0]["evaluations"] == 3 and rows[0]["ci"] == plain["ci"] and "clips" not in rows[0]
    assert rows[1]["tolerance"] == 0.5 and rows[1]["steps"] is None and rows[1]["evaluations"] >= 7


def test_the_cheapest_is_not_clearly_worse_than_the_best():
    rows = [
        {"all": 0.2, "ci": {"all": [0.1, 0.4]}, "evaluations": 4},
        {"all": 0.7, "ci": {"all": [0.5, 0.85]}, "evaluations": 8},
        {"all": 0.8, "ci": {"all": [0.6, 0.9]}, "evaluations": 64},
    ]
    assert cheapest(rows)["evaluations"] == 8


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"names": ["magic"]}, "sampler 'magic' is unknown; choose of euler"),
        ({"budgets": [0, 4]}, r"budgets of evaluations are \[0, 4\]"),
        ({"tolerances": [2.0]}, r"tolerances are \[2.0\]; each must lie between 0 and 1"),
    ],
)
def test_what_is_no_effort_is_named(change, says):
    with pytest.raises(VidgenError, match=says):
        plan_efforts(**{"names": ["euler"], "budgets": [4], "tolerances": []} | change)
