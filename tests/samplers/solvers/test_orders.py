"""For Gaussian data the ideal denoiser is known and the flow has a closed solution: each solver's order is measured."""

import pytest
import torch

from vidgen.diffusion.paths import PATHS
from vidgen.diffusion.prediction_types import PREDICTION_TYPES
from vidgen.samplers import solvers
from vidgen.samplers.evaluation.closed_forms import GaussianData, through_network
from vidgen.samplers.evaluation.convergence import (
    even_steps,
    fitted_order,
    inner_ends,
    measure_errors,
    measure_orders,
    measure_tolerances,
    moment_error,
)
from vidgen.samplers.solvers import SAMPLERS

# Large enough for the leading term of the error, small enough not to reach rounding.
STEPS = {"rk45": (24, 48), "dpmpp_3m": (40, 80), "unipc": (40, 80), "euler_ancestral": (40, 80)}
SLACK = {"rk45": 1.4}  # on linear slopes, as these are, it may do better than on others
ONE_STEP = ("euler", "heun", "midpoint", "rk4", "euler_ancestral")  # of these the whole run has the order, too


@pytest.mark.parametrize(("name", "field"), [("ORDERS", "order"), ("EVALUATIONS", "evaluations")])
def test_former_tables_warn_and_name_the_same_solvers(name, field):
    with pytest.warns(FutureWarning, match=rf"{name} is now a field of each solver: SAMPLERS\[name\].{field}"):
        table = getattr(solvers, name)
    assert table == {key: getattr(solver, field) for key, solver in SAMPLERS.items()}
    with pytest.warns(FutureWarning):
        assert set(SAMPLERS) > set(solvers.STOCHASTIC) == {"euler_ancestral", "dpmpp_2m_sde"}


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_order_between_finite_ends(name, kind):
    path = PATHS[kind]()
    order = fitted_order(measure_errors(name, path, inner_ends(path), STEPS.get(name, (20, 40))))
    assert SAMPLERS[name].order - 0.3 < order < SAMPLERS[name].order + SLACK.get(name, 0.5)


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", ONE_STEP)
def test_order_from_noise_to_data(name, kind):
    order = fitted_order(measure_errors(name, PATHS[kind](), (1.0, 0.0), (40, 80) if name == "rk4" else (24, 48)))
    assert SAMPLERS[name].order - 0.3 < order < SAMPLERS[name].order + 0.5


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ONE_STEP and name != "rk45"])
def test_multistep_solvers_reach_data_too(name, kind):
    # at a lower order: near the ends, where ln(alpha / sigma) is infinite, their steps do not shrink with their number
    coarse, fine = (row[1] for row in measure_errors(name, PATHS[kind](), (1.0, 0.0), (24, 96)))
    assert fine < 0.01 and fine < coarse / 3


@pytest.mark.parametrize("kind", ["flow", "edm"])
def test_the_tolerance_of_rk45_is_kept(kind):
    tolerances = (1e-4, 1e-7)
    rows = measure_tolerances(PATHS[kind](), tolerances)
    assert fitted_order(rows) > 4.5 and rows[0][0] < 60
    for tolerance, (_, error) in zip(tolerances, rows, strict=True):
        assert error < 5 * tolerance


@pytest.mark.parametrize("name", [name for name in SAMPLERS if not SAMPLERS[name].stochastic])
def test_every_objective_and_path_gives_the_same_clip(name):
    # The same signal-to-noise ratios on each path: a solver in terms of alpha and sigma cannot tell them apart, but for
    # those that average x0 and eps, whose sums differ by their order.
    data, clips = GaussianData(), []
    x = torch.randn(1, 2, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for kind in PATHS:
        path = PATHS[kind]()
        angles = torch.linspace(1.5, 0.2, 13, dtype=torch.float64)
        times = path.level(angles.cos(), angles.sin())
        radii = torch.hypot(path.alpha(times), path.sigma(times))
        for prediction_type in PREDICTION_TYPES:
            denoise = through_network(data.denoiser(path), path, prediction_type)
            clips.append(SAMPLERS[name](denoise, radii[0] * x, times, path) / radii[-1])
    tolerance = 2e-2 if name == "heun" else 1e-9
    assert all(torch.allclose(clip, clips[0], atol=tolerance) for clip in clips)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("name", SAMPLERS)
def test_moments_of_a_mixture(name, kind):
    row = moment_error(name, kind, "v_prediction", steps=32, side=64)
    assert row["error"] < (0.1 if SAMPLERS[name].order == 1 or SAMPLERS[name].stochastic else 0.02), row
    assert row["evaluations"] <= 32 * SAMPLERS[name].evaluations


def test_rows_of_the_table():
    rows = measure_orders(["euler"], steps=(8, 16))
    assert [row["path"] for row in rows] == list(PATHS)
    assert all(row["claimed"] == 1 and 0.7 < row["measured"] < 1.3 and row["evaluations"] == 1 for row in rows)
    assert even_steps(1.0, 0.0, 4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
