"""Clips in chunks: what each one holds, and which prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.errors import VidgenError

PromptSchedule = Sequence[tuple[int, str]]  # (the frame from which it holds, prompt), in order


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """The next latents of a clip and the frames that they decode to; `start` is the number of the first of these."""

    latents: Float[Tensor, "1 c k h w"]
    frames: UInt8[np.ndarray, "n H W 3"]
    start: int
    prompt: str


def read_prompts(prompt: str | PromptSchedule) -> list[tuple[int, str]]:
    """Return a schedule of prompts. Raises VidgenError unless it starts at frame 0 and goes on from there."""
    schedule = [(0, prompt)] if isinstance(prompt, str) else list(prompt)
    starts = [start for start, _ in schedule]
    if not schedule or starts[0] != 0 or any(b <= a for a, b in zip(starts, starts[1:], strict=False)):
        raise VidgenError(
            f"prompts that hold from frames {starts}: the first must hold from 0, each next from a later one"
        )
    return schedule


def prompt_at(schedule: PromptSchedule, frame: int) -> str:
    """Return the prompt that holds at a frame."""
    return [prompt for start, prompt in schedule if start <= frame][-1]
