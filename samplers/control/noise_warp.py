"""Noise warp: noise that moves as a motion field says, and is standard normal noise in every frame, exactly.

Interpolated noise is smooth where values are mixed and rough where they are not. So each cell is cut into parts, given
what the cell holds (Chang et al. 2024, "How I Warped Your Noise"): a cell's value is the sum of its parts
over the root of their number, and all parts of a frame are independent. A frame takes its parts from where they were
in the first one, area by area, and no part twice; what no part of the first frame reaches has noise of its own. So all
parts of every frame are independent too, and its covariance is the identity, whatever the field.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.diffusion.noise import Generators, draw_like
from vidgen.errors import VidgenError
from vidgen.samplers.control.motion_fields import MotionField

PARTS = 8  # of a cell, along each side: motion is rounded to an eighth of a cell


def split_cells(
    noise: Float[Tensor, "... h w"], white: Float[Tensor, "... H W"], parts: int
) -> Float[Tensor, "... H W"]:
    """Return parts x parts values for each cell, drawn given the cell's: independent standard normals, of which
    `join_cells` makes the cell again. `white` is standard normal noise of their size."""
    inner = white - spread_cells(reduce(white, "... (h p) (w q) -> ... h w", "mean", p=parts, q=parts), parts)
    return spread_cells(noise, parts) / parts + inner


def join_cells(fine: Float[Tensor, "... H W"], parts: int) -> Float[Tensor, "... h w"]:
    """Return the sum of each cell's parts over the root of their number."""
    return reduce(fine, "... (h p) (w q) -> ... h w", "sum", p=parts, q=parts) / parts


def spread_cells(x: Float[Tensor, "... h w"], parts: int) -> Float[Tensor, "... H W"]:
    """Return each cell's value in all of its parts."""
    return repeat(x, "... h w -> ... (h p) (w q)", p=parts, q=parts)


def find_sources(field: MotionField, parts: int) -> Int[Tensor, "n t l"]:
    """Return for each part of each frame the number of the part of the first frame that it takes, or -1.

    Of several that would take the same one, the one that has moved farthest does: what moves passes before what rests.
    """
    fine = parts * spread_cells(field, parts).double()  # n 2 t H W, in parts
    height, width = fine.shape[-2:]
    x = (torch.arange(width) + 0.5 + fine[:, 0]).floor().long()
    y = (torch.arange(height)[:, None] + 0.5 + fine[:, 1]).floor().long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    count = height * width
    source = torch.where(inside, y * width + x, count)  # `count` is a place for all that comes from outside
    source = rearrange(source, "n t h w -> n t (h w)")
    distance = rearrange(fine.square().sum(1), "n t h w -> n t (h w)")
    rank = (-distance).argsort(dim=-1, stable=True).argsort(dim=-1)
    least = torch.full((*source.shape[:2], count + 1), count)
    least = least.scatter_reduce(2, source, rank, "amin")
    takes = (least.gather(2, source) == rank) & (source < count)
    return torch.where(takes, source, -1)


def move_parts(
    fine: Float[Tensor, "b c H W"], own: Float[Tensor, "b c t H W"], source: Int[Tensor, "n t l"]
) -> Float[Tensor, "b c t H W"]:
    """Return the frames whose parts are those of `fine` at their sources, and of `own` where there is none."""
    b, c, t, height, width = own.shape
    index = source.expand(b, -1, -1)
    index = rearrange(index, "b t l -> b 1 (t l)").expand(-1, c, -1)
    taken = rearrange(fine, "b c h w -> b c (h w)").gather(2, index.clamp(min=0))
    moved = torch.where(index >= 0, taken, rearrange(own, "b c t h w -> b c (t h w)"))
    return rearrange(moved, "b c (t h w) -> b c t h w", t=t, h=height, w=width)


def warp_noise(
    noise: Float[Tensor, "b c t h w"],
    field: MotionField,
    generator: Generators | None = None,
    *,
    share: float = 1.0,
    parts: int = PARTS,
) -> Float[Tensor, "b c t h w"]:
    """Return noise of clips that follows a motion field; each frame is standard normal.

    With `share` below 1 that part of each value's variance follows the field, and the rest is `noise` itself (Ge et al.
    2023, PYoCo; Burgert et al. 2025, Go-with-the-Flow), which a model that was trained with
    independent frames takes better.
    Raises VidgenError for a share that is none, and for a field of another size.

    Args:
        noise: Standard normal noise, independent from frame to frame.
        field: Motion since the first frame in cells, of all clips (n = 1) or of each. Vectors are rounded to
            1 / `parts` of a cell.
        generator: Of further noise, one a clip or one for all.
        share: From 0, where `noise` is returned, to 1.
        parts: Along each side of a cell.
    """
    if not 0.0 <= share <= 1.0:
        raise VidgenError(f"share {share:g} of the noise follows the motion: give 0 to 1")
    if field.shape[2:] != noise.shape[2:] or len(field) not in (1, len(noise)):
        raise VidgenError(f"motion {tuple(field.shape)} is not for noise {tuple(noise.shape)}: make sizes the same")
    first = draw_like(noise[:, :, 0], generator)
    like = repeat(noise[:, :, :1], "b c 1 h w -> b c t (h p) (w q)", t=noise.shape[2] + 1, p=parts, q=parts)
    white, own = draw_like(like, generator).split([1, noise.shape[2]], dim=2)
    fine = split_cells(first, white[:, :, 0], parts)
    warped = join_cells(move_parts(fine, own, find_sources(field.cpu(), parts).to(fine.device)), parts)
    return math.sqrt(share) * warped + math.sqrt(1.0 - share) * noise
