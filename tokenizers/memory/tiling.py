"""One chunk of a clip, tile by tile: exactly, where layers see a bounded neighbourhood, or blended where they do not.

Exact tiles carry a halo, the cells around them that their result depends on, and only their own cells are kept:
together they are the untiled result, and the streaming state between chunks is the untiled state, so that chunks of
one clip may be tiled differently, or not at all. Blended tiles are an approximation: each is computed as if it were
a frame of its own, and where two overlap their results cross over linearly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.tokenizers.memory.receptive_fields import Halo, decoder_halo, encoder_halo
from vidgen.tokenizers.model import StreamState, VideoTokenizer


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


@dataclass(frozen=True, kw_only=True)
class BlendedState:
    """The streaming states of all blended tiles, in order of rows, then columns; None for one that is used up."""

    tiles: list[StreamState | None]


Tiles = ExactTiles | BlendedTiles
TiledState = StreamState | BlendedState


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Cells `start` to `stop` of an axis that a tile is for, and `outer_start` to `outer_stop` that it computes."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    @property
    def outer(self) -> int:
        return self.outer_stop - self.outer_start

    def alone(self) -> Segment:
        """The same cells, and no others computed."""
        return Segment(start=self.start, stop=self.stop, outer_start=self.start, outer_stop=self.stop)

    def cells(self, scale: int) -> slice:
        """The tile's own cells in the whole axis, at `scale` positions a cell."""
        return slice(self.start * scale, self.stop * scale)

    def computed(self, scale: int) -> slice:
        """The computed cells in the whole axis."""
        return slice(self.outer_start * scale, self.outer_stop * scale)

    def kept(self, scale: int) -> slice:
        """The tile's own cells in what it computed."""
        return slice((self.start - self.outer_start) * scale, (self.stop - self.outer_start) * scale)


def cut_axis(length: int, size: int, before: int, after: int, period: int = 1) -> list[Segment]:
    """Nearly equal segments of at most `size` cells, with up to `before` and `after` more that lie on the axis.

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
class Grid:
    """A frame of rows x cols latent cells, cut into tiles."""

    rows: int
    cols: int
    tiles: tuple[tuple[Segment, Segment], ...]


def cut_frame(rows: int, cols: int, tiles: Tiles, halo: Halo | None) -> Grid:
    """The tiles of a frame. Raises ValueError where exact ones are asked of a model whose layers see the frame."""
    if isinstance(tiles, BlendedTiles):
        halo = Halo(above=tiles.overlap, below=tiles.overlap, left=tiles.overlap, right=tiles.overlap)
    elif halo is None:
        raise ValueError(f"a layer sees the whole frame of {rows}x{cols} cells: no exact tiles, only BlendedTiles")
    down = cut_axis(rows, tiles.rows, halo.above, halo.below, halo.period)
    across = cut_axis(cols, tiles.cols, halo.left, halo.right, halo.period)
    return Grid(rows=rows, cols=cols, tiles=tuple((r, c) for r in down for c in across))


# One tile through the network: its rows and columns and its state in, its result and its state out.
TileStep = Callable[[Segment, Segment, StreamState | None], tuple[Tensor, StreamState]]


class Canvas:
    """A tensor (b, c, t, rows * k, cols * k) that tiles are put into; k, positions a cell, is that of the first.

    `whole` is a tensor to put them into, rather than a new one.
    """

    def __init__(self, grid: Grid, whole: Tensor | None = None) -> None:
        self.grid, self.whole = grid, whole

    def paste(self, part: Tensor, rows: Segment, cols: Segment) -> None:
        """Keeps the tile's own cells."""
        k, m = part.shape[3] // rows.outer, part.shape[4] // cols.outer
        if self.whole is None:
            shape = (*part.shape[:3], self.grid.rows * k, self.grid.cols * m)
            self.whole = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last_3d)
        self.whole[..., rows.cells(k), cols.cells(m)] = part[..., rows.kept(k), cols.kept(m)]


def crop(whole: Tensor, rows: Segment, cols: Segment, grid: Grid) -> Tensor:
    """The positions that a tile computes, of a tensor of the whole frame: a view."""
    k, m = whole.shape[3] // grid.rows, whole.shape[4] // grid.cols
    return whole[..., rows.computed(k), cols.computed(m)]


class _StateCanvas:
    """The streaming state of the whole frame: the one before, with the tiles' own put into its place.

    A tile's neighbours still need the state before it, so it waits until no tile to come reaches that far up. Two
    states of the whole frame are never held: at high resolutions they would take more than all else.
    """

    def __init__(self, grid: Grid, before: StreamState | None) -> None:
        self.grid, self.before = grid, before
        self.cache: dict[str, Canvas] = {}
        self.pending: Canvas | None = None
        self._waiting: deque[tuple[dict[str, Tensor], Segment, Segment]] = deque()

    def crop(self, rows: Segment, cols: Segment) -> StreamState | None:
        """The state before, as a tile needs it; what waits and lies above the tile is put into place first."""
        while self._waiting and self._waiting[0][1].stop <= rows.outer_start:
            self._commit()
        if self.before is None:
            return None
        old, grid = self.before, self.grid
        pending = None if old.pending is None else crop(old.pending, rows, cols, grid)
        return StreamState(cache={k: crop(v, rows, cols, grid) for k, v in old.cache.items()}, pending=pending)

    def add(self, after: StreamState, rows: Segment, cols: Segment) -> None:
        own = {}
        for key, value in after.cache.items():
            if key not in self.cache:
                old = self.before.cache.get(key) if self.before is not None else None
                self.cache[key] = Canvas(self.grid, old)
            k, m = value.shape[3] // rows.outer, value.shape[4] // cols.outer
            own[key] = value[..., rows.kept(k), cols.kept(m)].clone()
        self._waiting.append((own, rows, cols))
        if after.pending is not None:
            self.pending = self.pending or Canvas(self.grid)
            self.pending.paste(after.pending, rows, cols)

    def _commit(self) -> None:
        own, rows, cols = self._waiting.popleft()
        rows, cols = rows.alone(), cols.alone()
        for key, value in own.items():
            self.cache[key].paste(value, rows, cols)

    def state(self) -> StreamState:
        """The state after all tiles."""
        while self._waiting:
            self._commit()
        pending = None if self.pending is None else self.pending.whole
        return StreamState(cache={k: v.whole for k, v in self.cache.items()}, pending=pending)


class _Blend:
    """A weighted mean of overlapping tiles in float32 or better, weights falling linearly to each inner edge."""

    def __init__(self, grid: Grid) -> None:
        self.grid, self.total, self.weights = grid, None, None

    def add(self, part: Tensor, rows: Segment, cols: Segment) -> None:
        k, m = part.shape[3] // rows.outer, part.shape[4] // cols.outer
        dtype = torch.promote_types(part.dtype, torch.float32)
        down = ramp(rows, k).to(part.device, dtype)
        weight = down[:, None] * ramp(cols, m).to(part.device, dtype)
        if self.total is None:
            height, width = self.grid.rows * k, self.grid.cols * m
            self.total = torch.zeros(*part.shape[:3], height, width, dtype=dtype, device=part.device)
            self.weights = torch.zeros(height, width, dtype=dtype, device=part.device)
        self.total[..., rows.computed(k), cols.computed(m)] += part * weight
        self.weights[rows.computed(k), cols.computed(m)] += weight

    def mean(self, dtype: torch.dtype) -> Tensor:
        return self.total.div_(self.weights).to(dtype)


def ramp(segment: Segment, scale: int) -> Float[Tensor, " n"]:
    """Weights of a blended tile along an axis: 1, and linear over each overlap with a neighbour.

    An overlap reaches as far into the tile as out of it, so the weights of two neighbours sum to 1.
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


def encode_tiled(
    tokenizer: VideoTokenizer, video: Float[Tensor, "b 3 k H W"], state: TiledState | None, last: bool, tiles: Tiles
) -> tuple[Float[Tensor, "b d t h w"], TiledState]:
    """The bottleneck's input for the latents that these frames complete, tile by tile, and the state after them.

    `state` is used up: exact tiles write the next one into its memory. Raises ValueError for exact tiles of a model
    that has none.
    """
    f = tokenizer.config.ratio
    grid = cut_frame(-(-video.shape[3] // f), -(-video.shape[4] // f), tiles, encoder_halo(tokenizer))

    def run(rows: Segment, cols: Segment, before: StreamState | None) -> tuple[Tensor, StreamState]:
        return tokenizer._encode_hidden(video[..., rows.computed(f), cols.computed(f)], before, last)

    return _run_tiles(run, grid, state, tiles)


def decode_tiled(
    tokenizer: VideoTokenizer, latents: Float[Tensor, "b c k h w"], state: TiledState | None, tiles: Tiles
) -> tuple[Float[Tensor, "b 3 F H W"], TiledState]:
    """`VideoTokenizer.decode_chunk`, tile by tile. `state` is used up: exact tiles write the next one into its memory.

    Raises ValueError for exact tiles of a model that has none.
    """
    grid = cut_frame(*latents.shape[3:], tiles, decoder_halo(tokenizer))

    def run(rows: Segment, cols: Segment, before: StreamState | None) -> tuple[Tensor, StreamState]:
        return tokenizer.decode_chunk(crop(latents, rows, cols, grid), before)

    return _run_tiles(run, grid, state, tiles)


def _run_tiles(run: TileStep, grid: Grid, state: TiledState | None, tiles: Tiles) -> tuple[Tensor, TiledState]:
    if isinstance(tiles, ExactTiles):
        canvas, states = Canvas(grid), _StateCanvas(grid, state)
        for rows, cols in grid.tiles:
            part, after = run(rows, cols, states.crop(rows, cols))
            canvas.paste(part, rows, cols)
            states.add(after, rows, cols)
            del part, after  # before the next tile is computed, not after
        return canvas.whole, states.state()
    blend, states = _Blend(grid), state.tiles if state else [None] * len(grid.tiles)
    afters = []
    for k, (rows, cols) in enumerate(grid.tiles):
        part, after = run(rows, cols, states[k])
        states[k] = None  # what is not needed any more is let go at once
        blend.add(part, rows, cols)
        afters.append(after)
        dtype = part.dtype
        del part, after
    return blend.mean(dtype), BlendedState(tiles=afters)
