"""Rotary positions of a clip's cells: angles, their cosines and sines made once a shape, and the rotation itself."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

# Wavelengths of positions, in cells of the transformer's grid. Grids are small: a text model's wavelengths, up to
# 60,000, would leave most pairs the same at every cell.
WAVELENGTHS = (4.0, 256.0)


class Rotary(NamedTuple):
    """Cosines and sines of the angles by which the pairs of channels of each position are rotated."""

    cos: Float[Tensor, "n p"]
    sin: Float[Tensor, "n p"]


def position_angles(
    shape: tuple[int, int, int], pairs: int, device: torch.device | str = "cpu", theta: float = 0.0
) -> Float[Tensor, "n p"]:
    """Return angles (t*h*w, pairs) of 3-D positions, one axis after the other.

    Without `theta` a quarter of the pairs rotates with t and the rest is shared by h and w, each axis with wavelengths
    spaced geometrically over `WAVELENGTHS`. With it h and w have a third each and t the rest, pair i of n on an axis
    rotating by theta^(-i/n) a cell (Su et al. 2021, section 3.2.2; the shares are those of Wan Team 2025), in float64.
    """
    kind = torch.float64 if theta else torch.float32
    share_h = pairs // 3 if theta else (pairs - pairs // 4) // 2
    share_t = pairs - 2 * share_h if theta else pairs // 4
    shortest, longest = WAVELENGTHS
    parts = []
    for axis, share in enumerate((share_t, share_h, pairs - share_t - share_h)):
        steps = torch.arange(share, device=device, dtype=kind)
        if theta:
            frequencies = theta ** (-steps / share)
        else:
            spacing = steps / max(share - 1, 1)
            frequencies = 2.0 * math.pi / shortest * torch.exp(-math.log(longest / shortest) * spacing)
        angles = torch.arange(shape[axis], device=device)[:, None] * frequencies
        index = [None, None, None, slice(None)]
        index[axis] = slice(None)
        parts.append(angles[tuple(index)].expand(*shape, share))
    return rearrange(torch.cat(parts, dim=-1), "t h w p -> (t h w) p")


@lru_cache(maxsize=8)
def rotary_table(
    shape: tuple[int, int, int], pairs: int, theta: float, device: torch.device, dtype: torch.dtype
) -> Rotary:
    """Return cosines and sines of `position_angles`, made once a shape: every block of every step reads the same."""
    with torch.inference_mode(False):  # what is made in that mode could not be read where gradients are wanted
        angles = position_angles(shape, pairs, "cpu" if device.type == "mps" else device, theta)  # mps has no float64
        return Rotary(angles.cos().to(device, dtype), angles.sin().to(device, dtype))


def apply_rotary_emb(x: Float[Tensor, "b heads n d"], rotary: Rotary) -> Float[Tensor, "b heads n d"]:
    """Rotate the pair (x_i, x_{i + d/2}) of each position by its angle, so that dot products see differences of
    positions (rotary positions, Su et al. 2021, eq. 34). Computed in the table's precision, if that is the higher."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * rotary.cos - b * rotary.sin, a * rotary.sin + b * rotary.cos], dim=-1).to(x.dtype)


def apply_rotary_angles(x: Float[Tensor, "b heads n d"], angles: Float[Tensor, "n p"]) -> Float[Tensor, "b heads n d"]:
    """Rotate by angles as `apply_rotary_emb`, in the precision of x."""
    return apply_rotary_emb(x, Rotary(angles.cos().to(x.dtype), angles.sin().to(x.dtype)))
