"""How a frame of latent cells is cut into tiles: which cells each is for, and which more it computes.

Exact tiles carry a halo, the cells around them that their result depends on, and only their own cells are kept:
together they are the untiled result. Blended tiles are an approximation: each is computed as if it were a frame of its
own, and where two overlap their results cross over linearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.tokenizers.streaming.halos import Halo


@dataclass(frozen=True, kw_only=True)
class ExactTiles:
    """Tiles of at most rows x cols latent cells, halos not counted; the result is that without tiles."""

    rows: int
    cols: int


@dataclass(frozen=True, kw_only=True)
class BlendedTiles:
    """Tiles of at most rows x cols latent cells and `overlap` more on each side, blended by a linear ramp.

    The result differs from that without tiles: for models that attend over the frame, which have no exact tiles.
    """

    rows: int
    cols: int
    overlap: int = 2

    def __post_init__(self) -> None:
        if self.overlap < 1:
            raise ValueError(f"blended tiles overlap by at least one cell, not {self.overlap}")


Tiles = ExactTiles | BlendedTiles


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Cells `start` to `stop` of an axis that a tile is for, and `outer_start` to `outer_stop` that it computes."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    @property
    def outer(self) -> int:
        """Cells that the tile computes."""
        return self.outer_stop - self.outer_start

    def alone(self) -> Segment:
        """Return the same cells, and no others computed."""
        return Segment(start=self.start, stop=self.stop, outer_start=self.start, outer_stop=self.stop)

    def cells(self, scale: int) -> slice:
        """Return the tile's own cells in the whole axis, at `scale` positions a cell."""
        return slice(self.start * scale, self.stop * scale)

    def computed(self, scale: int) -> slice:
        """Return the computed cells in the whole axis."""
        return slice(self.outer_start * scale, self.outer_stop * scale)

    def kept(self, scale: int) -> slice:
        """Return the tile's own cells in what it computed."""
        return slice((self.start - self.outer_start) * scale, (self.stop - self.outer_start) * scale)


def cut_axis(length: int, size: int, before: int, after: int, period: int = 1) -> list[Segment]:
    """Return nearly equal segments of at most `size` cells, with up to `before` and `after` more that lie on the axis.

    What is computed begins at a multiple of `period`, so before it there may be up to `period` - 1 more.
    """
    if size < 1:
        raise ValueError(f"a tile has at least one cell, not {size}")
    count = -(-length // size)
    edges = [length * i // count for i in range(count + 1)]
    return [
        Segment(start=a, stop=b, outer_start=max(0, (a - before) // period * period), outer_stop=min(length, b + after))
        for a, b in zip(edges, edges[1:], strict=False)
    ]


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """A frame of rows x cols latent cells, cut into tiles."""

    rows: int
    cols: int
    tiles: tuple[tuple[Segment, Segment], ...]


def cut_frame(rows: int, cols: int, tiles: Tiles, halo: Halo | None) -> TileGrid:
    """Return the tiles of a frame. Raises ValueError for exact ones of a model whose layers see the whole frame."""
    if isinstance(tiles, BlendedTiles):
        halo = Halo(above=tiles.overlap, below=tiles.overlap, left=tiles.overlap, right=tiles.overlap)
    elif halo is None:
        raise ValueError(f"a layer sees the whole frame of {rows}x{cols} cells: no exact tiles, only BlendedTiles")
    down = cut_axis(rows, tiles.rows, halo.above, halo.below, halo.period)
    across = cut_axis(cols, tiles.cols, halo.left, halo.right, halo.period)
    return TileGrid(rows=rows, cols=cols, tiles=tuple((r, c) for r in down for c in across))


def ramp(segment: Segment, scale: int) -> Float[Tensor, " n"]:
    """Return the weights of a blended tile along an axis: 1, and linear over each overlap with a neighbor.

    An overlap reaches as far into the tile as out of it, so the weights of two neighbors sum to 1.
    """
    weights = torch.ones(segment.outer * scale)
    overlaps = ((segment.start - segment.outer_start, False), (segment.outer_stop - segment.stop, True))
    for cells, flip in overlaps:  # no cells where the tile ends with the frame
        n = min(2 * cells * scale, len(weights))
        if n:
            rise = (torch.arange(n) + 0.5) / (2 * cells * scale)
            ends = weights[-n:] if flip else weights[:n]
            ends.mul_(rise.flip(0) if flip else rise)
    return weights
