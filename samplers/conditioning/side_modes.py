"""What is asked of a clip and its side stream: which of the two is known, which is wanted, which is absent.

One network does all of it (Li et al. 2025, UVA, section 3.3: masks choose between policy, forward and inverse dynamics
and video generation). To solvers, what is absent is as what is known; the network does not see it, see
`vidgen.models.dit.joint_network`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.errors import VidgenError

KNOWN, WANTED, ABSENT = "known", "wanted", "absent"


@dataclass(frozen=True)
class SideMode:
    """The state of a clip's later frames, behind those that are its context, and of all rows of the side stream.

    `least_context` is the fewest frames of context that the mode makes sense with.
    """

    frames: str
    rows: str
    least_context: int = 0


SIDE_MODES: Mapping[str, SideMode] = MappingProxyType(
    {
        "policy": SideMode(ABSENT, WANTED, 1),  # actions after the frames so far
        "forward": SideMode(WANTED, KNOWN),  # frames after actions
        "inverse": SideMode(KNOWN, WANTED),  # actions between frames
        "video": SideMode(WANTED, ABSENT),  # frames, actions unknown
        "joint": SideMode(WANTED, WANTED),  # frames with their actions
    }
)


@dataclass(frozen=True, kw_only=True)
class StreamStates:
    """Which of 2t frames, those of the clip and then the rows of the side stream, are `known` and which `absent`; the
    others are wanted."""

    known: Bool[Tensor, "*b two_t"]
    absent: Bool[Tensor, "*b two_t"]

    @property
    def fixed(self) -> Bool[Tensor, "*b two_t"]:
        """What no noise is added to, and nothing is asked of."""
        return self.known | self.absent

    @property
    def wanted(self) -> tuple[bool, bool]:
        """Whether anything is asked of the clip, and of the side stream."""
        frames, rows = (~self.fixed).chunk(2, dim=-1)
        return bool(frames.any()), bool(rows.any())


def find_states(mode: str, frames: int, context: int) -> StreamStates:
    """Return the states of a mode for clips of `frames` latent frames, the first `context` of which are known.

    Raises VidgenError for a mode that is unknown, and for a context that it cannot have.
    """
    if mode not in SIDE_MODES:
        raise VidgenError(f"mode {mode!r} is unknown; choose one of {', '.join(SIDE_MODES)}")
    chosen = SIDE_MODES[mode]
    if not chosen.least_context <= context <= frames:
        raise VidgenError(
            f"mode {mode}: a context of {context} latent frames, in clips of {frames}; give {chosen.least_context} to "
            f"{frames}"
        )
    past = torch.arange(frames) < context
    rows = torch.ones(frames, dtype=torch.bool)
    return StreamStates(
        known=torch.cat([past | (chosen.frames == KNOWN), rows & (chosen.rows == KNOWN)]),
        absent=torch.cat([~past & (chosen.frames == ABSENT), rows & (chosen.rows == ABSENT)]),
    )


def draw_states(modes: list[str], frames: int, generator: torch.Generator) -> StreamStates:
    """Draw the states of clips under `modes`, one a clip: the context is any that leaves a frame behind it."""
    states = []
    for mode in modes:
        least = SIDE_MODES[mode].least_context
        context = int(torch.randint(least, max(frames, least + 1), (), generator=generator))
        states.append(find_states(mode, frames, context))
    return StreamStates(
        known=torch.stack([state.known for state in states]), absent=torch.stack([state.absent for state in states])
    )


def levels_of(states: StreamStates, levels: Float[Tensor, "b two"]) -> Float[Tensor, "b two_t"]:
    """Return the noise levels of all frames, given one for each stream of each clip; 0 where nothing is asked."""
    frames = states.known.shape[-1] // 2
    return levels.repeat_interleave(frames, dim=1).masked_fill(states.fixed.to(levels.device), 0.0)
