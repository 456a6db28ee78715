"""One chunk of a clip, tile by tile: exactly, where layers see a bounded neighborhood, or blended where they do not.

The streaming state between chunks of exact tiles is the untiled state, so that chunks of one clip may be tiled
differently, or not at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.tokenizers.encoded import StreamState
from vidgen.tokenizers.streaming.halos import decoder_halo, encoder_halo
from vidgen.tokenizers.streaming.tiles import ExactTiles, Segment, TileGrid, Tiles, cut_frame, ramp

if TYPE_CHECKING:
    from vidgen.tokenizers.model import VideoTokenizer


@dataclass(frozen=True, kw_only=True)
class BlendedState:
    """The streaming states of all blended tiles, in order of rows, then columns; None for one that is used up."""

    tiles: list[StreamState | None]


TiledState = StreamState | BlendedState


# One tile through the network: its rows and columns and its state in, its result and its state out.
TileStep = Callable[[Segment, Segment, StreamState | None], tuple[Tensor, StreamState]]


class Canvas:
    """A tensor (b, c, t, rows * k, cols * k) that tiles are put into; k, positions a cell, is that of the first.

    `whole` is a tensor to put them into, rather than a new one.
    """

    def __init__(self, grid: TileGrid, whole: Tensor | None = None) -> None:
        self.grid = grid
        self.whole = whole

    def paste(self, part: Tensor, rows: Segment, cols: Segment) -> None:
        """Keep the tile's own cells."""
        k, m = part.shape[3] // rows.outer, part.shape[4] // cols.outer
        if self.whole is None:
            shape = (*part.shape[:3], self.grid.rows * k, self.grid.cols * m)
            self.whole = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last_3d)
        self.whole[..., rows.cells(k), cols.cells(m)] = part[..., rows.kept(k), cols.kept(m)]


def crop(whole: Tensor, rows: Segment, cols: Segment, grid: TileGrid) -> Tensor:
    """Return the positions that a tile computes, of a tensor of the whole frame: a view."""
    k, m = whole.shape[3] // grid.rows, whole.shape[4] // grid.cols
    return whole[..., rows.computed(k), cols.computed(m)]


class _StateCanvas:
    """The streaming state of the whole frame: the one before, with the tiles' own put into its place.

    A tile's neighbors still need the state before it, so it waits until no tile to come reaches that far up. Two
    states of the whole frame are never held: at high resolutions they would take more than all else.
    """

    def __init__(self, grid: TileGrid, before: StreamState | None) -> None:
        self.grid = grid
        self.before = before
        self.cache: dict[str, Canvas] = {}
        self.pending: Canvas | None = None
        self._waiting: deque[tuple[dict[str, Tensor], Segment, Segment]] = deque()

    def crop(self, rows: Segment, cols: Segment) -> StreamState | None:
        """Return the state before, as a tile needs it; what waits and lies above the tile is put into place first."""
        while self._waiting and self._waiting[0][1].stop <= rows.outer_start:
            self._commit()
        if self.before is None:
            return None
        old = self.before
        grid = self.grid
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
        """Return the state after all tiles."""
        while self._waiting:
            self._commit()
        pending = None if self.pending is None else self.pending.whole
        return StreamState(cache={k: v.whole for k, v in self.cache.items()}, pending=pending)


class _Blend:
    """A weighted mean of overlapping tiles in float32 or better, weights falling linearly to each inner edge."""

    def __init__(self, grid: TileGrid) -> None:
        self.grid = grid
        self.total = None
        self.weights = None

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


def encode_tiled(
    tokenizer: VideoTokenizer, video: Float[Tensor, "b 3 k H W"], state: TiledState | None, last: bool, tiles: Tiles
) -> tuple[Float[Tensor, "b d t h w"], TiledState]:
    """Return the bottleneck's input for the latents that these frames complete, tile by tile, and the next state.

    `state` is used up: exact tiles write the next one into its memory. Raises ValueError for exact tiles of a model
    that has none.
    """
    f = tokenizer.config.spatial_compression_ratio
    grid = cut_frame(-(-video.shape[3] // f), -(-video.shape[4] // f), tiles, encoder_halo(tokenizer))

    def run(rows: Segment, cols: Segment, before: StreamState | None) -> tuple[Tensor, StreamState]:
        return tokenizer.encode_frames(video[..., rows.computed(f), cols.computed(f)], before, last)

    return _run_tiles(run, grid, state, tiles)


def decode_tiled(
    tokenizer: VideoTokenizer, latents: Float[Tensor, "b c k h w"], state: TiledState | None, tiles: Tiles
) -> tuple[Float[Tensor, "b 3 F H W"], TiledState]:
    """Return what `VideoTokenizer.decode_chunk` returns, tile by tile.

    `state` is used up: exact tiles write the next one into its memory.

    Raises ValueError for exact tiles of a model that has none.
    """
    grid = cut_frame(*latents.shape[3:], tiles, decoder_halo(tokenizer))

    def run(rows: Segment, cols: Segment, before: StreamState | None) -> tuple[Tensor, StreamState]:
        return tokenizer.decode_frames(crop(latents, rows, cols, grid), before)

    return _run_tiles(run, grid, state, tiles)


def _run_tiles(run: TileStep, grid: TileGrid, state: TiledState | None, tiles: Tiles) -> tuple[Tensor, TiledState]:
    if isinstance(tiles, ExactTiles):
        canvas, states = Canvas(grid), _StateCanvas(grid, state)
        for rows, cols in grid.tiles:
            part, after = run(rows, cols, states.crop(rows, cols))
            canvas.paste(part, rows, cols)
            states.add(after, rows, cols)
            del part, after  # before the next tile is computed, not after
        return canvas.whole, states.state()
    blend = _Blend(grid)
    states = state.tiles if state else [None] * len(grid.tiles)
    afters = []
    for k, (rows, cols) in enumerate(grid.tiles):
        part, after = run(rows, cols, states[k])
        states[k] = None  # what is not needed any more is let go at once
        blend.add(part, rows, cols)
        afters.append(after)
        dtype = part.dtype
        del part, after
    return blend.mean(dtype), BlendedState(tiles=afters)
