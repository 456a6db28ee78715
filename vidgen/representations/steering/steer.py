"""Steering: a direction added to a clip's latents, and decoded to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import to_uint8
from vidgen.deprecation import renamed_fields
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.models.placement import device_of
from vidgen.representations.model_layers import evaluating
from vidgen.representations.pooling import POOLS
from vidgen.representations.steering.directions import Direction

LATENTS = "tokenizer.latents"  # the layer that can be decoded
# How a pooled direction is spread over the latents (c, t, h, w) again.
SPREAD = {
    "none": ("(t h w c) -> c t h w", ("t", "h", "w")),
    "mean": ("(c) -> c 1 1 1", ()),
    "temporal": ("(h w c) -> c 1 h w", ("h", "w")),
    "spatial": ("(t c) -> c t 1 1", ("t",)),
}
GAP = 2  # white pixels between clips side by side


@renamed_fields(wanted="latent_positions", seen="decoded_positions")
@dataclass(frozen=True, kw_only=True)
class Steered:
    """A clip at several strengths. latent_positions: how far along the direction its latents were moved,
    decoded_positions: how far the latents of the decoded pixels are; see `Direction.position`."""

    strengths: tuple[float, ...]
    frames: UInt8[np.ndarray, "s t h w 3"]
    latent_positions: tuple[float, ...]
    decoded_positions: tuple[float, ...]

    @property
    def side_by_side(self) -> UInt8[np.ndarray, "t h w2 3"]:
        """The frames with strengths from left to right."""
        white = np.full((*self.frames.shape[1:3], GAP, 3), 255, np.uint8)
        parts = [part for clip in self.frames for part in (clip, white)][:-1]
        return np.concatenate(parts, axis=2)


@torch.no_grad()
def steer(
    tokenizer: Tokenizer, video: Float[Tensor, "3 T H W"], direction: Direction, strengths: Sequence[float], pool: str
) -> Steered:
    """Return the clip with `strength` times the direction added to its latents: everywhere, for axes that `pool`
    averaged over.

    Raises VidgenError for a pool that cannot be undone, and latents that are not as the direction's.
    """
    moved, decoded, clips = [], [], []
    with evaluating(tokenizer):
        encoded = tokenizer.encode(video[None].to(device_of(tokenizer)))
        z = encoded.latents
        change = spread(direction.vector, pool, z.shape[1:]).to(z)
        for strength in strengths:
            latents = z + float(strength) * change
            pixels = tokenizer.decode(replace(encoded, latents=latents)).float().clamp(-1, 1)
            clips.append(to_uint8(pixels[0].cpu()))
            moved.append(position_of(direction, latents, pool))
            decoded.append(position_of(direction, tokenizer.encode(pixels.to(z)).latents, pool))
    return Steered(
        strengths=tuple(strengths), frames=np.stack(clips), latent_positions=tuple(moved),
        decoded_positions=tuple(decoded),
    )  # fmt: skip


def position_of(direction: Direction, latents: Float[Tensor, "1 c t h w"], pool: str) -> float:
    """Return how far along a direction a clip's latents are."""
    return float(direction.position(pooled(latents, pool))[0])


@torch.no_grad()
def encode_pooled(tokenizer: Tokenizer, video: Float[Tensor, "3 T H W"], pool: str) -> Float[np.ndarray, " d"]:
    """Return a clip's latents as a bank of that pool holds them."""
    with evaluating(tokenizer):
        return pooled(tokenizer.encode(video[None].to(device_of(tokenizer))).latents, pool)[0]


def pooled(latents: Float[Tensor, "b c t h w"], pool: str) -> Float[np.ndarray, "b d"]:
    """Return latents as a bank of that pool holds them, flattened."""
    return POOLS[pool](rearrange(latents.float(), "b c t h w -> b t h w c")).flatten(1).cpu().numpy()


def spread(vector: Float[np.ndarray, " d"], pool: str, shape: Sequence[int]) -> Float[Tensor, "c t h w"]:
    """Return a direction of pooled latents as a change of latents of `shape` (c, t, h, w), or one that broadcasts to
    it."""
    if pool not in SPREAD:
        raise VidgenError(f"a direction of pool {pool!r} cannot be decoded; extract with {', '.join(SPREAD)}")
    pattern, names = SPREAD[pool]
    sizes = dict(zip("cthw", shape, strict=True))
    expected = int(np.prod([sizes[name] for name in ("c", *names)]))
    if len(vector) != expected:
        raise VidgenError(
            f"the direction has {len(vector)} numbers, and latents {'x'.join(map(str, shape))} of pool {pool!r} have "
            f"{expected}; give a clip of the bank's length and size"
        )
    return rearrange(torch.from_numpy(vector), pattern, **{name: sizes[name] for name in names})
