"""Attention patterns: positions of a clip attend within a frame, over time at one place, or within a 3-D window.

Queries, keys and values are (b, heads, t*h*w, d); a pattern cuts them into groups that attend within themselves. No
mask is used, so that nothing is computed in vain.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange

from vidgen.models.attention import Heads

Grid = tuple[int, int, int]
Attend = Callable[[Heads, Heads, Heads], Heads]
AttentionPattern = Callable[[Attend, Heads, Heads, Heads], Heads]


def over_frames(attend: Attend, q: Heads, k: Heads, v: Heads, *, grid: Grid) -> Heads:
    """Return attention of positions to those of their frame."""
    q, k, v = (rearrange(x, "b k (t s) d -> (b t) k s d", t=grid[0]) for x in (q, k, v))
    return rearrange(attend(q, k, v), "(b t) k s d -> b k (t s) d", t=grid[0])


def over_time(attend: Attend, q: Heads, k: Heads, v: Heads, *, grid: Grid) -> Heads:
    """Return attention of positions to those at the same place of all frames."""
    q, k, v = (rearrange(x, "b k (t s) d -> (b s) k t d", t=grid[0]) for x in (q, k, v))
    return rearrange(attend(q, k, v), "(b s) k t d -> b k (t s) d", s=grid[1] * grid[2])


def over_windows(
    attend: Attend, q: Heads, k: Heads, v: Heads, *, grid: Grid, window: Grid, offset: Grid = (0, 0, 0)
) -> Heads:
    """Return attention of positions to those of their window, whose borders `cut_windows` lays on each axis.

    Args:
        attend: attention of a group within itself.
        q: queries of all positions, and so `k` and `v`.
        k: keys.
        v: values.
        grid: number of positions (t, h, w).
        window: size of a window (t, h, w).
        offset: where the first border lies on each axis.
    """
    q, k, v = (rearrange(x, "b k (t h w) d -> b k t h w d", t=grid[0], h=grid[1]) for x in (q, k, v))
    cuts = [cut_windows(n, size, start) for n, size, start in zip(grid, window, offset, strict=True)]
    to_windows = "b k (f l) (i p) (j r) d -> (b f i j) k (l p r) d"
    to_grid = "(b f i j) k (l p r) d -> b k (f l) (i p) (j r) d"
    slabs = []
    for first, last, depth in cuts[0]:
        lines = []
        for top, bottom, p in cuts[1]:
            line = []
            for left, right, r in cuts[2]:
                axes = {"l": depth, "p": p, "r": r, "i": (bottom - top) // p, "j": (right - left) // r}
                part = (rearrange(x[:, :, first:last, top:bottom, left:right], to_windows, **axes) for x in (q, k, v))
                line.append(rearrange(attend(*part), to_grid, f=(last - first) // depth, **axes))
            lines.append(torch.cat(line, dim=4))
        slabs.append(torch.cat(lines, dim=3))
    return rearrange(torch.cat(slabs, dim=2), "b k t h w d -> b k (t h w) d")


def cut_windows(length: int, window: int, offset: int) -> list[tuple[int, int, int]]:
    """Return stretches (start, stop, size of the windows in it) of an axis with window borders at offset, offset +
    window, ...; the offset is below window.

    Windows at the ends are smaller where the axis cuts them, so that any length works without padding or masks:
    three stretches at most.
    """
    first = min(offset, length)
    whole = first + (length - first) // window * window
    stretches = [(0, first, first), (first, whole, window), (whole, length, length - whole)]
    return [stretch for stretch in stretches if stretch[1] > stretch[0]]


def windows_of(grid: Grid, window: Grid, shifted: bool) -> AttentionPattern | None:
    """Return the pattern of windows of `window` cells, 0 being the whole axis; None where one window holds the grid.

    `shifted` moves their borders by half a window (Liu et al. 2021, Swin, section 3.2) on the axes that are cut at all.
    """
    sizes = tuple(min(size or length, length) for size, length in zip(window, grid, strict=True))
    if sizes == grid:
        return None
    offset = tuple(size // 2 if shifted and size < length else 0 for size, length in zip(sizes, grid, strict=True))
    return partial(over_windows, grid=grid, window=sizes, offset=offset)
