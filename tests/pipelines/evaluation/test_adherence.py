"""Adherence: the world's own clips score as asked, others do not; intervals in closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from vidgen.metrics.intervals import wilson_interval
from vidgen.pipelines.evaluation.adherence import (
    MEASURES,
    held_out_prompts,
    held_out_world,
    score_clips,
    score_reconstruction,
)

N = 12


class Identity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return video


class Grey(Identity):
    def forward(self, video: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(video)


def test_a_perfect_generator_scores_one_and_a_shuffled_one_does_not() -> None:
    world = held_out_world()
    asked = held_out_prompts(world, N)
    clips = [world[i].video for i in range(N)]
    seen: list[int] = []
    report = score_clips(iter(clips), asked, seen.append)
    assert [report[m] for m in MEASURES] == [1.0] * 4 and report["n"] == N and seen == list(range(1, N + 1))
    shuffled = score_clips(iter(clips[1:] + clips[:1]), asked)
    assert shuffled["all"] < 0.2 and shuffled["colour"] < 0.6


def test_the_ceiling_of_a_tokenizer() -> None:
    world = held_out_world()
    perfect = score_reconstruction(Identity(), world, N, batch_size=5)
    assert perfect["all"] == 1.0
    assert [row["prompt"] for row in perfect["clips"]] == [a.caption for a in held_out_prompts(world, N)]
    assert score_reconstruction(Grey(), world, 3)["all"] == 0.0


def test_held_out_prompts_are_not_those_of_training() -> None:
    from vidgen.data.shapes import ShapeWorld

    held_out, train = held_out_world(), ShapeWorld()
    assert held_out.config.split == "held_out" and train.config.split == "train"
    same = [np.array_equal(held_out[i].video, train[i].video) for i in range(4)]
    assert not any(same)


def test_wilson_intervals_in_closed_form() -> None:
    z2 = 1.959963984540054**2
    for n in (10, 200):
        assert wilson_interval(0.0, n) == pytest.approx((0.0, z2 / (n + z2)))
        assert wilson_interval(1.0, n) == pytest.approx((n / (n + z2), 1.0))
    low, high = wilson_interval(0.5, 100)
    assert low + high == pytest.approx(1.0) and high - 0.5 == pytest.approx(0.5 * (z2 / (100 + z2)) ** 0.5)
