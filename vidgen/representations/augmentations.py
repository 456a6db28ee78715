"""Temporal perturbations of clips: what leaves most labels as they are, for learning from clips without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.diffusion.noise import sample_generator

WEAK, STRONG = "weak.", "strong."  # before the keys of features of clips that are changed a little, and much
SPEED = 1.6  # up to so much faster or slower
JITTER = 1.0  # frames


def shift_frames(
    video: Float[Tensor, "b c T H W"], ids: Sequence[int | str], seed: int = 0
) -> Float[Tensor, "b c T H W"]:
    """Return every clip a frame earlier or later, a function of (seed, id) alone; one end frame comes twice."""
    return torch.stack([clip[:, shift_of(clip.shape[1], i, seed)] for clip, i in zip(video, ids, strict=True)])


def warp_frames(
    video: Float[Tensor, "b c T H W"], ids: Sequence[int | str], seed: int = 0
) -> Float[Tensor, "b c T H W"]:
    """Return every clip faster or slower around some moment, with frames left out and repeated, in their order.

    A function of (seed, id) alone. Where a label is of speed or of moments, this changes it.
    """
    return torch.stack([clip[:, warp_of(clip.shape[1], i, seed)] for clip, i in zip(video, ids, strict=True)])


def shift_of(frames: int, name: int | str, seed: int) -> Int[Tensor, " T"]:
    """Return the numbers of the frames of `shift_frames`, in order."""
    step = 2 * int(torch.randint(2, (1,), generator=sample_generator(seed, f"weak view of {name}"))) - 1
    return (torch.arange(frames) + step).clamp(0, frames - 1)


def warp_of(frames: int, name: int | str, seed: int) -> Int[Tensor, " T"]:
    """Return the numbers of the frames of `warp_frames`, in order."""
    generator = sample_generator(seed, f"strong view of {name}")
    power, middle = torch.rand(2, generator=generator).tolist()
    center = middle * (frames - 1)
    jitter = JITTER * (2 * torch.rand(frames, generator=generator) - 1)
    moments = (torch.arange(frames) - center) * SPEED ** (2 * power - 1) + center + jitter
    return moments.round().long().clamp(0, frames - 1).sort().values


AUGMENTATIONS: dict[str, Callable[..., Tensor]] = {WEAK: shift_frames, STRONG: warp_frames}
