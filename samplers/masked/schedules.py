"""Schedules of masked decoding: the share of tokens that is still masked, as a function of progress, and its inverse.

Chang et al. 2022 (MaskGIT), section 3.3, have linear and cosine; arccos is of Besnier & Chen 2023 (arXiv 2310.14400).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.bounds import InferenceSteps, check_value
from vidgen.errors import VidgenError

Share = Float[Tensor, "..."]
ROUNDING = 1e-9  # of shares: two thirds of nine tokens are six


@dataclass(frozen=True, kw_only=True)
class MaskSchedule:
    """`masked_share(progress)` falls from 1 to 0 as progress goes from 0 to 1; `progress(masked_share)` undoes it."""

    masked_share: Callable[[Share], Share]
    progress: Callable[[Share], Share]


SCHEDULES: dict[str, MaskSchedule] = {
    "cosine": MaskSchedule(
        masked_share=lambda progress: (0.5 * math.pi * progress).cos(),
        progress=lambda share: 2.0 / math.pi * share.acos(),
    ),
    "linear": MaskSchedule(masked_share=lambda progress: 1.0 - progress, progress=lambda share: 1.0 - share),
    "arccos": MaskSchedule(
        masked_share=lambda progress: 2.0 / math.pi * progress.acos(),
        progress=lambda share: (0.5 * math.pi * share).cos(),
    ),
}


def find_schedule(name: str) -> MaskSchedule:
    """Return the schedule of that name. Raises VidgenError for a name that is unknown."""
    if name not in SCHEDULES:
        raise VidgenError(f"schedule {name!r} is unknown; choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name]


def masked_counts(num_tokens: int, num_steps: int, schedule: str = "cosine") -> list[int]:
    """Return how many of `num_tokens` are still masked after each step, rounded down; the last is 0.

    Every step reveals at least one token, so that of fewer tokens than steps there are as many steps as tokens.
    Raises VidgenError for 0 steps and for an unknown schedule.
    """
    check_value(num_steps, InferenceSteps, "num_steps")
    kind = find_schedule(schedule)
    steps = min(num_steps, num_tokens)
    progress = torch.arange(1, steps + 1, dtype=torch.float64) / max(steps, 1)
    wanted = (kind.masked_share(progress) * num_tokens + ROUNDING).floor().long().tolist()
    counts = []
    for step, count in enumerate(wanted, start=1):
        before = counts[-1] if counts else num_tokens
        counts.append(min(before - 1, max(steps - step, count)))  # later steps have one each, too
    return counts


def reveal_counts(num_tokens: int, num_steps: int, schedule: str = "cosine") -> list[int]:
    """Return how many tokens each step reveals: they sum to `num_tokens`, and none is 0. Raises as `masked_counts`."""
    masked = masked_counts(num_tokens, num_steps, schedule)
    return [before - after for before, after in zip([num_tokens, *masked], masked, strict=False)]
