"""A Lipschitz critic: never steeper than 1, whatever its weights, and as steep as a known distance needs."""

import pytest
import torch

from vidgen.models.heads.critic import LipschitzCritic
from vidgen.train.objectives.contrastive import wasserstein_dependency


def shaken(critic: LipschitzCritic) -> LipschitzCritic:
    """Give all weights large values."""
    with torch.no_grad():
        for i, x in enumerate(critic.parameters()):
            x.add_(5.0 * torch.randn(x.shape, generator=torch.Generator().manual_seed(i)))
    return critic


def test_scores_differ_no_more_than_pairs_do():
    critic = shaken(LipschitzCritic(5, hidden=16).double())
    x, y = (torch.randn(40, 5, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in (1, 2))
    scores = critic(x, y)
    rows = torch.cat([x[:, None].expand(-1, 40, -1), y.expand(40, -1, -1)], dim=-1).flatten(0, 1)
    slopes = torch.pdist(scores.flatten()[:, None]) / torch.pdist(rows)
    assert slopes.max() <= 1.0 + 1e-9 and slopes.max() > 0.5
    x.requires_grad_()
    critic(x, y).diagonal().sum().backward()
    assert x.grad.norm(dim=1).max() <= 1.0 + 1e-9


def test_a_trained_critic_reaches_the_wasserstein_distance_and_not_more():
    # Pairs are (a, a) and (-a, -a), eight of each: of the other pairs of a batch 8 / 15 lie 2 a away from both.
    a, count = 0.7, 16
    x = torch.tensor([a, -a]).repeat(count // 2)[:, None]
    distance = 2 * a * (count / 2) / (count - 1)
    torch.manual_seed(0)
    critic = LipschitzCritic(1, hidden=16)
    optimizer = torch.optim.Adam(critic.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        loss, _ = wasserstein_dependency(critic(x, x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) >= -distance - 1e-5
    assert losses[-1] == pytest.approx(-distance, rel=0.05)
