"""What a clip is as key frames and motion, what it is between chunks, and what decoding gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.tokenizers.encoded import latent_size
from vidgen.tokenizers.keyframes.config import KeyframeConfig


@dataclass(frozen=True, kw_only=True)
class KeyframeCodes:
    """A clip of `num_frames`, or a part of one that starts at a key frame: n key frames, m other frames, in order.

    Latents are normalized; indices are those of discrete parts. `losses` are the bottlenecks', of the motion as
    "motion_NAME", of key frames as "key_NAME".
    """

    key_latents: Float[Tensor, "b c n h w"]
    motion_latents: Float[Tensor, "b d m i j"]
    num_frames: int
    height: int
    width: int
    key_indices: Int[Tensor, "b n h w"] | Int[Tensor, "b n h w q"] | None = None
    motion_indices: Int[Tensor, "b m i j"] | Int[Tensor, "b m i j q"] | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GroupState:
    """What one chunk hands to the next: the frames that do not fill a group yet."""

    pending: Float[Tensor, "b 3 p H W"] | None = None


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """Decoding with its steps: `frames` from `warped` (key frames as they are, others as key frames moved by a refined
    `field`) and what is added to them; `field` in pixels is 0 for key frames."""

    frames: Float[Tensor, "b 3 T H W"]
    warped: Float[Tensor, "b 3 T H W"]
    keys: Float[Tensor, "b 3 n H W"]
    field: Float[Tensor, "b 2 T i j"]


def join(parts: Sequence[Tensor | None], dim: int) -> Tensor | None:
    """Return the parts one behind the other; None where a part is None."""
    return None if any(part is None for part in parts) else torch.cat(list(parts), dim=dim)


def join_codes(parts: Sequence[KeyframeCodes], gop: int) -> KeyframeCodes:
    """Return the clip that consecutive parts make up, without their losses.

    Raises VidgenError for parts that do not fit together.
    """
    if not parts:
        raise ValueError("a clip has at least one part, got 0")
    sizes = {(part.height, part.width) for part in parts}
    if len(sizes) > 1 or any(part.num_frames % gop for part in parts[:-1]):
        frames = [part.num_frames for part in parts]
        raise VidgenError(
            f"parts of {frames} frames of {sorted(sizes)} are no clip: all but the last hold whole groups of {gop}"
        )
    return KeyframeCodes(
        key_latents=join([part.key_latents for part in parts], 2),
        motion_latents=join([part.motion_latents for part in parts], 2),
        key_indices=join([part.key_indices for part in parts], 1),
        motion_indices=join([part.motion_indices for part in parts], 1),
        num_frames=sum(part.num_frames for part in parts),
        height=parts[0].height,
        width=parts[0].width,
    )


def cut_groups(num_frames: int, gop: int, at_once: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first, stop, frames a group) of pieces of whole groups, then of the tail.

    A piece has up to `at_once` frames, but one group at least.
    """
    whole = num_frames // gop * gop
    step = max(1, at_once // gop) * gop
    for first in range(0, whole, step):
        yield first, min(first + step, whole), gop
    if whole < num_frames:
        yield whole, num_frames, num_frames - whole


def count_keys(num_frames: int, gop: int) -> int:
    """Return how many key frames a clip has."""
    return -(-num_frames // gop)


def check_codes(codes: KeyframeCodes, config: KeyframeConfig) -> None:
    """Raise VidgenError unless the latents are as many as frames of that size need."""
    count = count_keys(codes.num_frames, config.gop)
    key = (
        config.key.latent_channels,
        count,
        *latent_size(codes.height, codes.width, config.key.spatial_compression_ratio),
    )
    motion = (config.motion_channels, codes.num_frames - count, *latent_size(codes.height, codes.width, config.block))
    shapes = tuple(codes.key_latents.shape[1:]), tuple(codes.motion_latents.shape[1:])
    if codes.num_frames < 1 or shapes != (key, motion):
        raise VidgenError(
            f"codes {tuple(codes.key_latents.shape)} and {tuple(codes.motion_latents.shape)} do not hold "
            f"{codes.num_frames} frames of {codes.height}x{codes.width}: {config.name} needs {key} and "
            f"{motion} for each clip"
        )
