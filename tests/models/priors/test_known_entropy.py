"""Worlds of known entropy: a sprite on a torus moves on as it began, so that a clip has the bits of its start alone."""

import math

import pytest
import torch

from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.likelihood import likelihood, token_nats
from vidgen.models.priors.token_prior import TokenPrior

SIDE, FRAMES = 3, 3
WAYS = [(0, 1), (1, 0), (0, -1), (-1, 0)]
STEPS = 350
GRID = (FRAMES, SIDE, SIDE)


def torus_clips() -> torch.Tensor:
    """All clips (n, t*h*w) of a sprite of one cell, by where it starts and where it goes: all equally probable."""
    clips = []
    for start in range(SIDE * SIDE):
        for down, right in WAYS:
            clip = torch.zeros(GRID, dtype=torch.int64)
            for t in range(FRAMES):
                clip[t, (start // SIDE + t * down) % SIDE, (start % SIDE + t * right) % SIDE] = 1
            clips.append(clip.flatten())
    return torch.stack(clips)


@pytest.mark.slow
def test_a_trained_prior_comes_down_to_the_entropy_and_not_below():
    torch.manual_seed(0)
    clips = torus_clips()
    floor = math.log(len(clips))
    assert len(clips.unique(dim=0)) == len(clips) == 36
    prior = TokenPrior(TokenPriorConfig(codebook_sizes=(2,), width=48, depth=2, head_dim=16))
    optimizer = torch.optim.AdamW(prior.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
    for _ in range(STEPS):
        loss = token_nats(prior(clips, GRID), clips).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    nats = likelihood(prior.eval(), clips, GRID).nats.mean().item()
    # The mean over the law itself is its entropy and a divergence, which is never negative (Gibbs).
    assert floor - 1e-4 <= nats <= 1.01 * floor
