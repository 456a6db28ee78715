"""Post-training on Gaussians, where the distribution that a reward asks for is known."""

import math

import pytest
import torch

from vidgen.train.losses.preference import preference_loss, reward_weights


def test_weights_of_a_group_have_a_mean_of_one_and_the_ratio_of_the_reward():
    weights = reward_weights(torch.tensor([[0.0, 1.0], [0.5, 0.5]]), temperature=0.5)
    torch.testing.assert_close(weights.mean(1), torch.ones(2))
    assert float(weights[0, 1] / weights[0, 0]) == pytest.approx(math.e**2, rel=1e-5)
    assert weights[1].tolist() == [1.0, 1.0]


def test_weighted_clips_have_the_moments_of_the_tilted_law():
    """A standard normal times exp(a x / temperature) is the normal of mean a / temperature and width 1."""
    x = torch.randn(1, 400_000, generator=torch.Generator().manual_seed(0)).double()
    weights = reward_weights(0.4 * x, temperature=0.5)
    mean = (weights * x).mean()
    assert float(mean) == pytest.approx(0.8, abs=0.01)
    assert float((weights * (x - mean).square()).mean()) == pytest.approx(1.0, abs=0.02)


def test_a_model_that_is_its_reference_prefers_nothing():
    errors = torch.rand(4, generator=torch.Generator().manual_seed(0))
    loss = preference_loss(errors, errors, errors + 1.0, errors + 1.0, beta=3.0)
    torch.testing.assert_close(loss, torch.full((4,), math.log(2.0)))


def test_preferences_by_a_reward_lead_to_the_law_that_it_asks_for():
    """With errors |x - m|^2 / 2 the change against the reference at 0 is m x - m^2 / 2: preferences drawn by the reward
    a x (Bradley & Terry) are most likely where beta m = a, the mean of the tilted normal."""
    g = torch.Generator().manual_seed(0)
    slope, beta = 1.5, 3.0
    first, second = torch.randn(2, 100_000, generator=g).double()
    chance = torch.sigmoid(slope * (first - second))
    wins = torch.rand(len(first), generator=g) < chance
    better, worse = torch.where(wins, first, second), torch.where(wins, second, first)
    mean = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([mean], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        errors = [(x - m).square() / 2 for x in (better, worse) for m in (mean, 0.0)]
        loss = preference_loss(*errors, beta=beta).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert float(mean.detach()) == pytest.approx(slope / beta, abs=0.01)
