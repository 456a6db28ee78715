"""Which positions a tokenizer's output depends on, read off its layers: what exact tiles and partial decoding rest on.

Every kind of layer says how a box of its output maps to the box of its input that it sees (Araujo et al. 2019,
"Computing receptive fields", eq. 2, applied to both ends of an interval). A layer that nothing is known of, attention
over a frame among them, sees everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import singledispatch

from torch import nn

from vidgen.tokenizers.backbones.convolutional import Decoder, Encoder, Output
from vidgen.tokenizers.backbones.convolutions import (
    CausalConv3d,
    CausalMix,
    ChannelNorm,
    Downsample,
    ResidualBlock,
    Upsample,
)
from vidgen.tokenizers.model import VideoTokenizer


@dataclass(frozen=True, kw_only=True)
class Span:
    """The positions `first` to `last`, both included, of one axis."""

    first: int
    last: int

    def seen_by(self, kernel: int, stride: int, before: int) -> Span:
        """The input that a convolution with `before` positions of padding in front reads for this output."""
        return Span(first=self.first * stride - before, last=self.last * stride - before + kernel - 1)

    def halved(self) -> Span:
        """The input of nearest upsampling by two."""
        return Span(first=self.first // 2, last=self.last // 2)

    def scaled(self, factor: int) -> Span:
        """The finer positions that make these up, `factor` to one."""
        return Span(first=self.first * factor, last=self.last * factor + factor - 1)


@dataclass(frozen=True, kw_only=True)
class Box:
    """Positions on the three axes; None is all of an axis."""

    t: Span | None
    h: Span | None
    w: Span | None


EVERYTHING = Box(t=None, h=None, w=None)


def hull(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all of them."""

    def join(spans: list[Span | None]) -> Span | None:
        if None in spans:
            return None
        return Span(first=min(span.first for span in spans), last=max(span.last for span in spans))

    boxes = list(boxes)
    return Box(t=join([b.t for b in boxes]), h=join([b.h for b in boxes]), w=join([b.w for b in boxes]))


def chain(layers: Iterable[nn.Module], box: Box) -> Box:
    """Through layers that run one after the other, given in that order."""
    for layer in reversed(list(layers)):
        box = look_back(layer, box)
    return box


def _holds_only(layer: nn.Module, *names: str) -> bool:
    """Whether the layer's parts are those that its rule below knows; a part added since must not be overlooked."""
    return {name for name, part in layer.named_children() if part is not None} <= set(names)


@singledispatch
def look_back(layer: nn.Module, box: Box) -> Box:
    """The input that `box` of the layer's output depends on; all of it, for a layer without a rule below."""
    return EVERYTHING


@look_back.register
def _(layer: nn.Identity, box: Box) -> Box:
    return box


@look_back.register
def _(layer: ChannelNorm, box: Box) -> Box:
    return box


@look_back.register
def _(layer: nn.Conv3d, box: Box) -> Box:
    before = [0, *layer.padding[1:]]
    before[0] = layer.context if isinstance(layer, CausalConv3d) else layer.padding[0]
    spans = [
        None if span is None else span.seen_by(kernel, stride, padding)
        for span, kernel, stride, padding in zip(
            (box.t, box.h, box.w), layer.kernel_size, layer.stride, before, strict=True
        )
    ]
    return Box(t=spans[0], h=spans[1], w=spans[2])


@look_back.register
def _(layer: CausalMix, box: Box) -> Box:
    return chain(layer.layers, box) if _holds_only(layer, "layers") else EVERYTHING


@look_back.register
def _(layer: ResidualBlock, box: Box) -> Box:
    if not _holds_only(layer, "norm1", "mix1", "norm2", "mix2", "skip"):
        return EVERYTHING
    main = chain([layer.norm1, layer.mix1, layer.norm2, layer.mix2], box)
    return hull([main, look_back(layer.skip, box)])


@look_back.register
def _(layer: Output, box: Box) -> Box:
    if not _holds_only(layer, "skip", "norm", "conv"):
        return EVERYTHING
    return hull([look_back(layer.skip, box), chain([layer.norm, layer.conv], box)])


@look_back.register
def _(layer: Downsample, box: Box) -> Box:
    if not _holds_only(layer, "space", "time"):
        return EVERYTHING
    return chain([layer.space, *([layer.time] if layer.time is not None else [])], box)


@look_back.register
def _(layer: Upsample, box: Box) -> Box:
    if not _holds_only(layer, "space", "time"):
        return EVERYTHING
    box = look_back(layer.space, box)
    box = replace(box, h=box.h and box.h.halved(), w=box.w and box.w.halved())
    if layer.time is not None:
        box = look_back(layer.time, box)
        box = replace(box, t=box.t and box.t.halved())
    return box


@look_back.register
def _(layer: Encoder, box: Box) -> Box:
    known = _holds_only(layer, "conv_in", "layers", "out")
    return chain([layer.conv_in, *layer.layers, layer.out], box) if known else EVERYTHING


@look_back.register
def _(layer: Decoder, box: Box) -> Box:
    known = _holds_only(layer, "conv_in", "layers", "out")
    return chain([layer.conv_in, *layer.layers, layer.out], box) if known else EVERYTHING


def encoder_field(tokenizer: VideoTokenizer) -> Box:
    """The pixels that the latent at cell (0, 0, 0) depends on; its own are 0 to ratio - 1 on every axis."""
    c, cell = tokenizer.config, Span(first=0, last=0)
    box = look_back(tokenizer.encoder, Box(t=cell, h=cell, w=cell))
    return Box(
        t=box.t and box.t.scaled(c.patch_t), h=box.h and box.h.scaled(c.patch), w=box.w and box.w.scaled(c.patch)
    )


def decoder_field(tokenizer: VideoTokenizer) -> Box:
    """The latent cells that the pixels of cell (0, 0, 0) depend on."""
    c, cell = tokenizer.config, Span(first=0, last=0)
    space = cell.scaled(c.ratio // c.patch)
    return look_back(tokenizer.decoder, Box(t=cell.scaled(c.ratio_t // c.patch_t), h=space, w=space))


@dataclass(frozen=True, kw_only=True)
class Halo:
    """Latent cells that a tile needs beyond its own: above, below, left and right of it."""

    above: int
    below: int
    left: int
    right: int


def encoder_halo(tokenizer: VideoTokenizer) -> Halo | None:
    """Cells around a tile that its latents depend on; None where a layer sees the whole frame."""
    box, f = encoder_field(tokenizer), tokenizer.config.ratio
    if box.h is None or box.w is None:
        return None
    (above, below), (left, right) = ((-(s.first // f), s.last // f) for s in (box.h, box.w))
    return Halo(above=above, below=below, left=left, right=right)


def decoder_halo(tokenizer: VideoTokenizer) -> Halo | None:
    """Cells around a tile that its pixels depend on; None where a layer sees the whole frame."""
    box = decoder_field(tokenizer)
    if box.h is None or box.w is None:
        return None
    return Halo(above=-box.h.first, below=box.h.last, left=-box.w.first, right=box.w.last)


def decoder_context(tokenizer: VideoTokenizer) -> int | None:
    """Latent frames before one that its frames depend on; None where a layer sees all of the past."""
    box = decoder_field(tokenizer)
    return None if box.t is None else -box.t.first
