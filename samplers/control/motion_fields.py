"""Motion fields of clips: where what stands in a frame was in the first one, in the convention of `warp`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.errors import VidgenError

# (x, y) in cells: frame k at p looks like the first frame at p + field[k] at p (backward motion).
MotionField = Float[Tensor, "n 2 t h w"]
Shifts = Float[Tensor, "t 2"]  # (x, y) by which something has moved since the first frame
Box = tuple[float, float, float, float]  # left, top, right, bottom


def translation_field(shifts: Shifts, height: int, width: int) -> MotionField:
    """Return the field of a clip that moves as a whole."""
    return -rearrange(shifts, "t d -> 1 d t 1 1").expand(1, 2, len(shifts), height, width)


def box_masks(shifts: Shifts, box: Box, height: int, width: int) -> Bool[Tensor, "t h w"]:
    """Return the cells whose middle lies in a box of the first frame that has moved by the shifts."""
    x = torch.arange(width) + 0.5 - shifts[:, :1]  # t w, in the first frame
    y = torch.arange(height) + 0.5 - shifts[:, 1:]  # t h
    left, top, right, bottom = box
    return ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]


def box_field(shifts: Shifts, box: Box, height: int, width: int) -> MotionField:
    """Return the field of a clip in which a box of the first frame moves, and all else rests."""
    return translation_field(shifts, height, width) * box_masks(shifts, box, height, width)[None, None]


def resize_field(field: MotionField, temporal_ratio: int, spatial_ratio: int) -> MotionField:
    """Return the field of latents, in cells of `spatial_ratio` pixels, from that of a clip's pixels: means over the
    pixels of a cell and the frames of a latent frame. The first frame has a latent frame of its own.

    Raises VidgenError for sides that are not whole cells.
    """
    height, width = field.shape[-2:]
    if height % spatial_ratio or width % spatial_ratio:
        raise VidgenError(f"motion of {height}x{width} pixels: sides must be multiples of {spatial_ratio}")
    t = 1 + math.ceil((field.shape[2] - 1) / temporal_ratio)
    first = field[:, :, :1].expand(-1, -1, temporal_ratio - 1, -1, -1)
    last = field[:, :, -1:].expand(-1, -1, t * temporal_ratio - field.shape[2] - temporal_ratio + 1, -1, -1)
    whole = torch.cat([first, field, last], dim=2)
    return F.avg_pool3d(whole, (temporal_ratio, spatial_ratio, spatial_ratio)) / spatial_ratio
