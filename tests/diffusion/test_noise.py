"""Noise levels follow their distribution; noise is a function of seed and sample."""

import math

import pytest
import torch

from vidgen.diffusion.noise import DENSITIES, TimeDistribution, draw_like, draw_per_sample, sample_generator
from vidgen.diffusion.paths import PATHS
from vidgen.errors import VidgenError

schedule = TimeDistribution().steps


def test_logit_normal_quantiles_are_exact():
    time = TimeDistribution(density="logit_normal", mean=0.3, std=0.8)
    u = torch.tensor([0.1587, 0.5, 0.8413], dtype=torch.float64)  # -1, 0 and +1 standard deviations
    expected = torch.tensor([1 / (1 + math.exp(-(0.3 + 0.8 * k))) for k in (-1, 0, 1)], dtype=torch.float64)
    assert torch.allclose(time.quantile(u), expected, atol=1e-4)


@pytest.mark.parametrize("density", DENSITIES)
def test_draws_follow_the_quantiles(density):
    time = TimeDistribution(density=density, shift=2.0)
    draws = time.sample((20000,), torch.Generator().manual_seed(0))
    assert 0 <= draws.min() and draws.max() <= 1
    for u in (0.1, 0.5, 0.9):
        assert abs((draws < time.quantile(torch.tensor(u))).float().mean() - u) < 0.02


def test_shift_is_the_formula_and_keeps_the_ends():
    time = TimeDistribution(shift=3.0)
    assert time.shifted(torch.tensor(0.5)) == pytest.approx(0.75)
    steps = time.steps(7)
    assert steps[0] == 1.0 and steps[-1] == 0.0 and (steps.diff() < 0).all()


def test_strata_are_equally_probable():
    time = TimeDistribution(density="logit_normal", shift=1.5)
    edges = time.quantile(torch.arange(9) / 8)
    assert ((time.stratified(8) > edges[:-1]) & (time.stratified(8) < edges[1:])).all()


def test_one_stream_per_sample():
    together = draw_per_sample((2, 3), [sample_generator(7, k) for k in range(4)])
    alone = draw_per_sample((2, 3), [sample_generator(7, 2)])
    assert torch.equal(together[2], alone[0])
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(draw_per_sample((2, 3), [sample_generator(8, 2)]), alone)


@pytest.mark.parametrize(
    "values",
    [{"density": "cauchy"}, {"shift": 0.0}, {"std": -1.0}, {"mode_scale": 2.0}, {"highest": 0.0}, {"path": "road"}],
)
def test_impossible_distributions_are_refused(values):
    with pytest.raises(VidgenError):
        TimeDistribution(**values)


def test_no_steps_are_refused():
    with pytest.raises(VidgenError, match="num_inference_steps is 0"):
        schedule(0)


def test_mode_density_is_the_papers_formula():
    # Esser et al. 2024, eq. 20, falls from 1 to 0 as its u rises: the quantile function is that of 1 - u
    u, s = torch.linspace(0, 1, 11, dtype=torch.float64), 1.29
    paper = 1 - (1 - u) - s * (torch.cos(math.pi / 2 * (1 - u)) ** 2 - 1 + (1 - u))
    assert torch.allclose(TimeDistribution(density="mode", mode_scale=s).quantile(u), paper)


@pytest.mark.parametrize("name", PATHS)
def test_log_normal_is_log_normal_in_sigma_over_alpha(name):
    time, path = TimeDistribution(density="log_normal", mean=-1.2, std=1.2, path=name), PATHS[name]()
    t = time.quantile(torch.tensor([0.158655, 0.5, 0.841345], dtype=torch.float64))
    expected = torch.tensor([-2.4, -1.2, 0.0], dtype=torch.float64)
    assert torch.allclose((path.sigma(t) / path.alpha(t)).log(), expected, atol=2e-4)


def test_log_normal_on_the_flow_path_is_logit_normal():
    u = torch.linspace(0, 1, 9, dtype=torch.float64)
    same = [TimeDistribution(density=d, mean=-0.4, std=1.1).quantile(u) for d in ("log_normal", "logit_normal")]
    assert torch.allclose(*same)


def test_the_shift_grows_with_tokens_and_the_root_of_frames():
    time = TimeDistribution(shift=1.0, shift_per_token=2 / 3840, frames_power=0.5)
    assert time.for_size(256, 1).shift == 1.0 and time.for_size(4096, 1).shift == pytest.approx(3.0)
    assert time.for_size(2176, 9).shift == pytest.approx(2.0 * 3.0)
    assert TimeDistribution(shift=2.5).for_size(10000, 33) == TimeDistribution(shift=2.5)
    fixed = time.for_size(4096, 4)
    assert fixed.for_size(256, 1) == fixed  # growing again changes nothing
    with pytest.raises(VidgenError, match="lower shift_per_token"):
        TimeDistribution(shift_per_token=0.1).for_size(16, 1)


def test_the_highest_level_bounds_training_and_sampling():
    time = TimeDistribution(highest=0.98, shift=3.0)
    assert time.steps(10)[0] == 0.98 and time.steps(10)[-1] == 0.0
    assert time.sample((1000,), torch.Generator().manual_seed(0)).max() <= 0.98


def test_a_distribution_survives_its_dict_and_an_older_one():
    time = TimeDistribution(density="log_normal", path="edm", shift_per_token=0.01, frames_power=0.5, highest=0.9)
    assert TimeDistribution(**time.to_dict()) == time
    older = {"density": "logit_normal", "mean": 0.0, "std": 1.0, "shift": 2.5}  # what checkpoints held before
    assert torch.equal(TimeDistribution(**older).steps(4), TimeDistribution(shift=2.5).steps(4))


def test_noise_for_a_batch_is_one_stream_a_sample():
    x = torch.zeros(3, 2, 2, dtype=torch.float64)
    drawn = draw_like(x, [sample_generator(7, k) for k in range(3)])
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn[1:2], draw_like(x[:1], [sample_generator(7, 1)]))
    assert not torch.equal(draw_like(x, torch.Generator().manual_seed(0)), drawn)
    with pytest.raises(ValueError, match="2 generators for 3 samples"):
        draw_like(x, [sample_generator(7, k) for k in range(2)])
