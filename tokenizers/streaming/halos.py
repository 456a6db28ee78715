"""Which positions a tokenizer's output depends on, as its layers say: what exact tiles and partial decoding rest on."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, lcm

from vidgen.tokenizers.backbones.attention import WindowAttention
from vidgen.tokenizers.backbones.convolutional import Decoder, Encoder
from vidgen.tokenizers.backbones.resampling import Downsample, Upsample
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.streaming.receptive_field import Interval, Region, receptive_field


def encoder_field(tokenizer: VideoTokenizer, cell: int = 0) -> Region:
    """The pixels that the latent at (0, cell, cell) depends on; its own are cell * ratio to (cell + 1) * ratio - 1.

    Of cell 0 that is the field of every other one too, moved along, unless windows do not move with it: see `Halo`.
    """
    c, space = tokenizer.config, Interval(first=cell, last=cell)
    box = receptive_field(tokenizer.encoder, Region(t=Interval(first=0, last=0), h=space, w=space))
    return Region(
        t=box.t and box.t.scaled(c.patch_t), h=box.h and box.h.scaled(c.patch), w=box.w and box.w.scaled(c.patch)
    )


def decoder_field(tokenizer: VideoTokenizer, cell: int = 0) -> Region:
    """The latent cells that the pixels of cell (0, cell, cell) depend on."""
    c = tokenizer.config
    space = Interval(first=cell, last=cell).scaled(c.spatial_compression_ratio // c.patch)
    return receptive_field(
        tokenizer.decoder,
        Region(t=Interval(first=0, last=0).scaled(c.temporal_compression_ratio // c.patch_t), h=space, w=space),
    )


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
    """The cells after which the windows of a network lie the same again; 1 without windows.

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
    """The halo of tiles for cells 0, 1, ... with these fields, in positions of which a cell has `cells`.

    None where a layer sees the whole frame.
    """
    if any(box.h is None or box.w is None for box in fields):
        return None
    reach = {}
    for axis, before, after in (("h", "above", "below"), ("w", "left", "right")):
        spans = [getattr(box, axis) for box in fields]
        reach[before] = max(cell - span.first // cells for cell, span in enumerate(spans))
        reach[after] = max(span.last // cells - cell for cell, span in enumerate(spans))
    return Halo(**reach, period=len(fields))


def encoder_halo(tokenizer: VideoTokenizer) -> Halo | None:
    """Cells around a tile that its latents depend on; None where a layer sees the whole frame."""
    c = tokenizer.config
    period = window_period(tokenizer.encoder, c.spatial_compression_ratio // c.patch)
    return widest([encoder_field(tokenizer, cell) for cell in range(period)], c.spatial_compression_ratio)


def decoder_halo(tokenizer: VideoTokenizer) -> Halo | None:
    """Cells around a tile that its pixels depend on; None where a layer sees the whole frame."""
    period = window_period(tokenizer.decoder, 1)
    return widest([decoder_field(tokenizer, cell) for cell in range(period)], 1)


def decoder_context(tokenizer: VideoTokenizer) -> int | None:
    """Latent frames before one that its frames depend on; None where a layer sees all of the past."""
    box = decoder_field(tokenizer)
    return None if box.t is None else -box.t.first
