"""Halos: the positions around its own that a part of a tokenizer's output depends on, by its receptive field."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, lcm
from typing import TYPE_CHECKING

from vidgen.tokenizers.backbones.attention import WindowAttention
from vidgen.tokenizers.backbones.convolutional import Decoder, Encoder
from vidgen.tokenizers.backbones.resampling import Downsample, Upsample
from vidgen.tokenizers.streaming.receptive_field import receptive_field
from vidgen.tokenizers.streaming.regions import Interval, Region

if TYPE_CHECKING:
    from vidgen.tokenizers.model import VideoTokenizer


def encoder_field(tokenizer: VideoTokenizer, cell: int = 0) -> Region:
    """Return the pixels that the latent at (0, cell, cell) depends on.

    With the spatial compression ratio f, its own pixels are cell * f to (cell + 1) * f - 1. Of cell 0 that is the field
    of every other one too, moved along, unless windows do not move with it: see `Halo`.
    """
    config = tokenizer.config
    space = Interval(first=cell, last=cell)
    patches = receptive_field(tokenizer.encoder, Region(t=Interval(first=0, last=0), h=space, w=space))
    sizes = (config.patch_t, config.patch, config.patch)
    t, h, w = (i and i.finer(size) for i, size in zip((patches.t, patches.h, patches.w), sizes, strict=True))
    return Region(t=t, h=h, w=w)


def decoder_field(tokenizer: VideoTokenizer, cell: int = 0) -> Region:
    """Return the latent cells that the pixels of cell (0, cell, cell) depend on."""
    config = tokenizer.config
    time = Interval(first=0, last=0).finer(config.temporal_compression_ratio // config.patch_t)
    space = Interval(first=cell, last=cell).finer(config.spatial_compression_ratio // config.patch)
    return receptive_field(tokenizer.decoder, Region(t=time, h=space, w=space))


@dataclass(frozen=True, kw_only=True)
class Halo:
    """Latent cells that a tile needs beyond its own: above, below, left and right of it, wherever it lies.

    What a tile computes begins at a multiple of `period` cells: windows then lie in it as they do in the frame.
    """

    above: int
    below: int
    left: int
    right: int
    period: int = 1


def window_period(network: Encoder | Decoder, positions: int) -> int:
    """Return the number of cells after which the windows of a network lie the same again; 1 without windows.

    positions: how many of them a cell has at the network's input, on one axis.
    """
    period = 1
    for layer in network.layers:
        for part in layer.modules():
            if isinstance(part, WindowAttention):
                period = lcm(period, part.window // gcd(part.window, positions))
        if isinstance(layer, Downsample):
            positions //= 2
        elif isinstance(layer, Upsample):
            positions *= 2
    return period


def widest(fields: list[Region], cells: int) -> Halo | None:
    """Return the halo of tiles for cells 0, 1, ... with these fields, in positions of which a cell has `cells`.

    None where a layer sees the whole frame.
    """
    if any(region.h is None or region.w is None for region in fields):
        return None
    reach = {}
    for axis, before, after in (("h", "above", "below"), ("w", "left", "right")):
        intervals = [getattr(region, axis) for region in fields]
        reach[before] = max(cell - interval.first // cells for cell, interval in enumerate(intervals))
        reach[after] = max(interval.last // cells - cell for cell, interval in enumerate(intervals))
    return Halo(**reach, period=len(fields))


def encoder_halo(tokenizer: VideoTokenizer) -> Halo | None:
    """Return the cells around a tile that its latents depend on; None where a layer sees the whole frame."""
    ratio = tokenizer.config.spatial_compression_ratio
    period = window_period(tokenizer.encoder, ratio // tokenizer.config.patch)
    return widest([encoder_field(tokenizer, cell) for cell in range(period)], ratio)


def decoder_halo(tokenizer: VideoTokenizer) -> Halo | None:
    """Return the cells around a tile that its pixels depend on; None where a layer sees the whole frame."""
    period = window_period(tokenizer.decoder, 1)
    return widest([decoder_field(tokenizer, cell) for cell in range(period)], 1)


def decoder_context(tokenizer: VideoTokenizer) -> int | None:
    """Return how many latent frames before one its frames depend on; None where a layer sees all of the past."""
    time = decoder_field(tokenizer).t
    return None if time is None else -time.first
