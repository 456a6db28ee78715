"""Schedules of masked decoding: their ends, their inverses, and counts that add up."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.samplers.masked.schedules import SCHEDULES, masked_counts, reveal_counts


@pytest.mark.parametrize("name", SCHEDULES)
def test_shares_fall_from_all_to_nothing_and_back(name: str) -> None:
    schedule, progress = SCHEDULES[name], torch.linspace(0.0, 1.0, 33, dtype=torch.float64)
    share = schedule.masked_share(progress)
    assert share[0] == 1.0 and abs(share[-1]) < 1e-15 and bool((share.diff() < 0).all())
    torch.testing.assert_close(schedule.progress(share), progress, atol=1e-12, rtol=0.0)


def test_counts_by_hand() -> None:
    assert reveal_counts(9, 3, "linear") == [3, 3, 3]
    assert masked_counts(8, 4, "linear") == [6, 4, 2, 0]
    assert masked_counts(100, 3, "cosine") == [86, 50, 0]  # cos 30, cos 60, cos 90 degrees
    assert masked_counts(100, 2, "arccos") == [66, 0]  # 2 / pi arccos 1/2
    assert reveal_counts(1, 12) == [1] and reveal_counts(0, 12) == []


@pytest.mark.parametrize("name", SCHEDULES)
def test_counts_sum_to_all_and_no_step_is_empty(name: str) -> None:
    for tokens in (1, 2, 7, 64, 1000):
        for steps in (1, 2, 3, 8, 63, 64, 65, 999, 10_000):
            counts = reveal_counts(tokens, steps, name)
            assert sum(counts) == tokens and min(counts) >= 1 and len(counts) == min(steps, tokens)
    assert reveal_counts(64, 64, name) == [1] * 64


@pytest.mark.parametrize("steps", [0, -1])
def test_errors_are_one_line(steps: int) -> None:
    with pytest.raises(VidgenError, match=f"^num_steps={steps} is not a whole number from 1 to"):
        reveal_counts(8, steps)
    with pytest.raises(VidgenError, match="schedule 'sine' is unknown; choose one of cosine, linear, arccos"):
        reveal_counts(8, 2, "sine")
