"""Draws without replacement have the law that they say, and the estimate of the gradient has the true one as mean."""

from itertools import permutations

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.objectives.selection import draw_subset, policy_gradient, subset_log_prob

SCORES = torch.tensor([0.5, -1.0, 1.5, 0.0])
ORDERS = torch.tensor(list(permutations(range(4), 2)))
REWARDS = torch.rand(12, generator=torch.Generator().manual_seed(3))


def test_the_probabilities_of_all_orders_sum_to_1_and_are_those_of_draws_one_by_one():
    log_probs = subset_log_prob(SCORES.expand(12, -1), ORDERS)
    assert torch.allclose(log_probs.exp().sum(), torch.tensor(1.0))
    p = SCORES.softmax(0)
    first, second = ORDERS.T
    assert torch.allclose(log_probs.exp(), p[first] * p[second] / (1 - p[first]), atol=1e-6)


def test_draws_are_as_frequent_as_they_say():
    orders = draw_subset(SCORES.expand(20_000, -1), 2, torch.Generator().manual_seed(0))
    counts = torch.stack([(orders == order).all(1).float().mean() for order in ORDERS])
    assert torch.allclose(counts, subset_log_prob(SCORES.expand(12, -1), ORDERS).exp(), atol=0.012)  # 3.4 deviations


def test_the_estimate_is_unbiased():
    scores = SCORES.clone().requires_grad_(True)
    log_probs = subset_log_prob(scores.expand(12, -1), ORDERS)
    (truth,) = torch.autograd.grad(-(log_probs.exp() * REWARDS).sum(), scores, retain_graph=True)
    p, mean = log_probs.detach().exp(), torch.zeros(4)
    for i in range(12):  # all pairs of draws, by how likely they are
        for j in range(12):
            pair = torch.tensor([i, j])
            loss, _ = policy_gradient(log_probs[pair, None], REWARDS[pair, None])
            mean += p[i] * p[j] * torch.autograd.grad(loss, scores, retain_graph=True)[0]
    assert torch.allclose(mean, truth, atol=1e-6) and truth.abs().max() > 0.01


def test_equal_rewards_teach_nothing_and_one_draw_is_refused():
    log_probs = torch.randn(3, 5, requires_grad=True)
    loss, parts = policy_gradient(log_probs, torch.full((3, 5), 0.25))
    loss.backward()
    assert log_probs.grad.eq(0).all() and parts["reward"] == 0.25
    with pytest.raises(VidgenError, match="one draw has nothing"):
        policy_gradient(torch.zeros(1, 2), torch.zeros(1, 2))
