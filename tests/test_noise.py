"""Noise levels follow their distribution; noise is a function of seed and sample."""

import math

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.noise import TimeDistribution, draw_per_sample, sample_generator


def test_logit_normal_quantiles_are_exact():
    time = TimeDistribution(density="logit_normal", mean=0.3, std=0.8)
    u = torch.tensor([0.1587, 0.5, 0.8413], dtype=torch.float64)  # -1, 0 and +1 standard deviations
    expected = torch.tensor([1 / (1 + math.exp(-(0.3 + 0.8 * k))) for k in (-1, 0, 1)], dtype=torch.float64)
    assert torch.allclose(time.quantile(u), expected, atol=1e-4)


@pytest.mark.parametrize("density", ["uniform", "logit_normal"])
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


@pytest.mark.parametrize("values", [{"density": "cauchy"}, {"shift": 0.0}, {"std": -1.0}])
def test_impossible_distributions_are_refused(values):
    with pytest.raises(VidgenError):
        TimeDistribution(**values)


def test_no_steps_are_refused():
    with pytest.raises(VidgenError, match="num_inference_steps is 0"):
        TimeDistribution().steps(0)
