"""A clip as latents, the state between its chunks, and the padding and checks of pixels on the way in."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks.output import Gaussian


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A clip as latents, with what decoding needs to give back exactly the frames that went in."""

    latents: Float[Tensor, "b c t h w"]
    num_frames: int
    height: int
    width: int
    indices: Int[Tensor, "b t h w"] | Int[Tensor, "b t h w q"] | None = None
    posterior: Gaussian | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """What one chunk hands to the next: context of every causal layer, and frames that do not fill a latent yet."""

    cache: dict[str, Tensor]
    pending: Float[Tensor, "b c p H W"] | None = None


def check_video(video: Tensor) -> None:
    """Raise VidgenError unless `video` is (b, 3, T >= 1, H >= 1, W >= 1) with finite values in [-1, 1].

    Compiled code and tensors without data check the shape alone: a graph cannot go by values.
    """
    if video.ndim != 5 or video.shape[1] != 3 or 0 in video.shape:
        raise VidgenError(f"video has shape {tuple(video.shape)}; a tokenizer takes (batch, 3, frames, height, width)")
    if torch.compiler.is_compiling() or video.is_meta:
        return
    low, high = (v.item() for v in torch.aminmax(video.detach()))
    if not (low >= -1.01 and high <= 1.01):  # also false for NaN; 0.01 is bfloat16's rounding at 1, with room
        raise VidgenError(f"video values span [{low:.3g}, {high:.3g}]; pixels must be finite and in [-1, 1]")


def latent_size(height: int, width: int, spatial_compression_ratio: int) -> tuple[int, int]:
    """Return the rows and columns of latent cells that hold a frame."""
    return -(-height // spatial_compression_ratio), -(-width // spatial_compression_ratio)


def pad_space(x: Float[Tensor, "b c t h w"], multiple: int) -> Float[Tensor, "b c t H W"]:
    """Repeat the last row and column until height and width are multiples of `multiple`."""
    below, right = -x.shape[3] % multiple, -x.shape[4] % multiple
    return F.pad(x, (0, right, 0, below, 0, 0), mode="replicate") if below or right else x


def pad_clip(
    x: Float[Tensor, "b c T H W"],
    temporal_compression_ratio: int,
    spatial_compression_ratio: int,
    lead: int | None = None,
) -> Float[Tensor, "b c t h w"]:
    """Pad a whole clip by the frame rule: repeat tail and edges to fill their cells.

    The first frame stands `lead` times before itself (None: as often as fills its cell).
    """
    frames = pad_space(x, spatial_compression_ratio)
    missing = -(x.shape[2] - 1) % temporal_compression_ratio
    lead = temporal_compression_ratio - 1 if lead is None else lead
    head = frames[:, :, :1].expand(-1, -1, lead, -1, -1)
    tail = frames[:, :, -1:].expand(-1, -1, missing, -1, -1)
    return torch.cat([head, frames, tail], dim=2)
