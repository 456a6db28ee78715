"""Plans for a memory budget: how many latent frames a chunk, and which tiles, so that a clip of any length fits.

What a pass takes is not estimated by a formula: the network runs on `meta` tensors, which have shapes and no data,
and every tensor it makes is counted until it is freed. That is exact for any backbone, and takes milliseconds. Around
it come what the streaming functions hold: pixels of the chunk, state, results.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from vidgen.checkpoints.memory import describe_bytes
from vidgen.errors import VidgenError
from vidgen.profiling.live_memory import LiveBytes, tensor_bytes
from vidgen.tokenizers.encoded import StreamState, latent_size
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.streaming.chunks import Plan, plan_by_pixels
from vidgen.tokenizers.streaming.halos import decoder_halo, encoder_halo
from vidgen.tokenizers.streaming.tiles import BlendedTiles, ExactTiles, TileGrid, Tiles, cut_frame

Task = Literal["encode", "decode", "reconstruct"]
HEADROOM = 1.15  # over what is counted: alignment, fragmentation, threads' own buffers; a guess, checked by a test
# Bytes a pixel for the one frame that is being read, written or compared: uint8, float32, float64 for the error.
PER_PIXEL: dict[Task, int] = {"encode": 8, "decode": 48, "reconstruct": 176}
LEAST_TILE = 4  # cells; smaller tiles are nearly all halo: they take much longer and hardly less memory
BLEND_OVERLAP = 4  # cells; less in tiles that are smaller than twice that


@dataclass(frozen=True, kw_only=True)
class PassCost:
    """Bytes of one pass over a tile: the most that it makes, and the state it leaves behind."""

    work: int
    state: int


def state_bytes(state: StreamState) -> int:
    """Return the bytes of a streaming state."""
    pending = [] if state.pending is None else [state.pending]
    return tensor_bytes(*state.cache.values(), *pending)


class MemoryModel:
    """What encoding and decoding with a tokenizer take, in bytes, for any plan."""

    def __init__(self, tokenizer: VideoTokenizer) -> None:
        self.config = tokenizer.config
        self.dtype = tokenizer.dtype
        self.weights = tensor_bytes(*tokenizer.parameters(), *tokenizer.buffers())
        self.halos = {"encode": encoder_halo(tokenizer), "decode": decoder_halo(tokenizer)}
        self.channels_in = tokenizer.bottleneck.channels_in
        with torch.device("meta"):
            self.shadow = type(tokenizer)(tokenizer.config).to(self.dtype).eval().requires_grad_(False)
        small, large = (self._run_bottleneck(tokenizer, width) for width in (4, 8))
        self.bottleneck_cell = (large - small) / 16
        self.bottleneck_base = small
        self._costs: dict[tuple, PassCost] = {}

    @property
    def exact(self) -> bool:
        """Whether this model has exact tiles."""
        return None not in self.halos.values()

    @property
    def windowed(self) -> bool:
        """Whether it has exact tiles, but of whole attention windows, with halos that may be as wide as the frame."""
        return self.exact and any(halo.period > 1 for halo in self.halos.values())

    def _run_bottleneck(self, tokenizer: VideoTokenizer, width: int) -> int:
        # On real numbers: a quantizer may branch on them, and what it takes is the same for every cell.
        with torch.inference_mode(), LiveBytes() as live:
            hidden = tokenizer.latents_mean.new_zeros(1, self.channels_in, 1, 4, width)
            tokenizer.bottleneck(hidden)
        return live.peak

    def pass_cost(self, task: str, latents: int, rows: int, cols: int) -> PassCost:
        """Return the cost of one pass over a tile of rows x cols cells, in the middle of a clip or at its start."""
        key = (task, latents, rows, cols)
        if key not in self._costs:
            with torch.no_grad():
                runs = [self._trace(task, latents, rows, cols, start=start) for start in (True, False)]
            self._costs[key] = PassCost(work=max(r.work for r in runs), state=max(r.state for r in runs))
        return self._costs[key]

    def _trace(self, task: str, latents: int, rows: int, cols: int, *, start: bool) -> PassCost:
        config = self.config
        state = None
        if task == "encode":
            f_t, f = config.temporal_compression_ratio, config.spatial_compression_ratio
            # A clip's first frame has a latent frame of its own.
            frames = 1 + (latents - 1) * f_t if start else latents * f_t
            chunk = torch.empty((1, 3, frames, rows * f, cols * f), device="meta", dtype=torch.float32)
            step = self.shadow.encode_hidden
        else:
            shape = (1, config.latent_channels, latents, rows, cols)
            chunk = torch.empty(shape, device="meta", dtype=self.dtype)
            step = self.shadow.decode_chunk
        if not start:
            _, state = step(chunk[:, :, :1], None)
        with LiveBytes(scratch=True) as live:
            _, state = step(chunk, state)
        return PassCost(work=live.peak, state=state_bytes(state))

    def _hold(self, task: str, rows: int, cols: int, plan: Plan) -> tuple[int, int]:
        """Return the bytes held from chunk to chunk, and on top of them while a chunk is in work, without pixels."""
        if plan.tiles is None:
            cost = self.pass_cost(task, plan.latents, rows, cols)
            return cost.state, round(HEADROOM * cost.work)
        grid = cut_frame(rows, cols, plan.tiles, self.halos[task])
        tall, wide = (max(tile[axis].outer for tile in grid.tiles) for axis in (0, 1))
        cost = self.pass_cost(task, plan.latents, tall, wide)
        state = round(cost.state / (tall * wide) * self._state_cells(grid, plan.tiles))
        share = 0.0
        if isinstance(plan.tiles, ExactTiles):  # of the next state, the rows that tiles to come still need the old of
            share = min(1.0, (tall + plan.tiles.rows) / rows)
        return state, round(share * state + HEADROOM * cost.work)

    @staticmethod
    def _state_cells(grid: TileGrid, tiles: Tiles) -> int:
        if isinstance(tiles, ExactTiles):
            return grid.rows * grid.cols
        return sum(down.outer * across.outer for down, across in grid.tiles)

    def peak(self, task: Task, height: int, width: int, plan: Plan) -> int:
        """Return the most bytes, weights included, that `task` takes with clips of height x width by this plan."""
        item = self.dtype.itemsize
        ratio = self.config.spatial_compression_ratio
        rows, cols = latent_size(height, width, ratio)
        frame = rows * cols * ratio**2
        chunk = plan.latents * self.config.temporal_compression_ratio * frame
        blended = isinstance(plan.tiles, BlendedTiles)
        total = self.weights + PER_PIXEL[task] * frame
        work = []
        if task != "decode":
            state, busy = self._hold("encode", rows, cols, plan)
            cells = rows * cols if plan.tiles is None else min(rows * cols, plan.tiles.rows * plan.tiles.cols + cols)
            hidden = plan.latents * rows * cols * self.channels_in * (item + (8 if blended else item))
            strip = self.bottleneck_base + self.bottleneck_cell * plan.latents * cells
            total += state + 3 * chunk * 5  # float32, and uint8 from which it is made
            work.append(busy + hidden + strip)
        if task != "encode":
            state, busy = self._hold("decode", rows, cols, plan)
            canvas = 0 if plan.tiles is None else 8 + item if blended else item
            total += state
            work.append(busy + 3 * chunk * (canvas + (4 if item != 4 else 0)))  # as decoded, and in float32
        return round(total + max(work))


def plan_for_memory(
    tokenizer: VideoTokenizer,
    height: int,
    width: int,
    *,
    max_bytes: int,
    task: Task = "reconstruct",
    reserved: int = 0,
    model: MemoryModel | None = None,
) -> Plan:
    """Return the plan with the largest chunks, then the largest tiles, that takes at most `max_bytes`.

    max_bytes counts the tokenizer's weights and every tensor of the work, and `reserved` bytes for anything else.
    Tiles are exact where the model has exact ones, blended where it attends over the frame, or in windows and no
    exact tile fits. `model` saves looking at the tokenizer again for the next size. Raises VidgenError, naming the
    least that works, if nothing fits.
    """
    if max_bytes < 1:
        raise ValueError(f"a budget of {max_bytes} bytes holds nothing")
    model = model or MemoryModel(tokenizer)

    def sized(plan: Plan) -> Plan:
        return replace(plan, peak_bytes=reserved + model.peak(task, height, width, plan))

    plans = []
    latents = plan_by_pixels(tokenizer, height, width).latents
    while latents:
        plans.append(sized(Plan(latents=latents)))
        if plans[-1].peak_bytes <= max_bytes:
            return plans[-1]
        latents //= 2
    side = max(latent_size(height, width, tokenizer.config.spatial_compression_ratio))
    sizes = sorted({-(-side // parts) for parts in range(2, side + 1)}, reverse=True)
    for exact in (True, False) if model.windowed else (model.exact,):
        for size in sizes:
            if size < LEAST_TILE:
                break
            plans.append(sized(Plan(latents=1, tiles=tiles_of(size, exact=exact))))
            if plans[-1].peak_bytes <= max_bytes:
                return plans[-1]
    least = min(plan.peak_bytes for plan in plans)
    raise VidgenError(
        f"memory of {describe_bytes(max_bytes)} is too little: frames of {height}x{width} take at least "
        f"{describe_bytes(least)} with {tokenizer.config.name}, in whatever tiles; allow more, or make the clip smaller"
    )


def tiles_of(size: int, *, exact: bool) -> Tiles:
    """Return tiles of `size` x `size` cells."""
    if exact:
        return ExactTiles(rows=size, cols=size)
    return BlendedTiles(rows=size, cols=size, overlap=max(1, min(BLEND_OVERLAP, size // 2)))
