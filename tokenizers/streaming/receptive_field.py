"""What each kind of layer sees: how a box of its output maps to the box of its input that it depends on.

For convolutions that is eq. 2 of Araujo et al. 2019, "Computing receptive fields", applied to both ends of an interval.
A layer that nothing is known of sees everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import singledispatch

from torch import nn

from vidgen.tokenizers.backbones.attention import CausalAttention, FrameAttention, WindowAttention
from vidgen.tokenizers.backbones.convolutional import Decoder, Encoder, Output
from vidgen.tokenizers.backbones.convolutions import (
    CausalConv3d,
    CausalMix,
    ChannelNorm,
    ResidualBlock,
)
from vidgen.tokenizers.backbones.norms import RMSNorm
from vidgen.tokenizers.backbones.resampling import DoubleTime, Downsample, HalveTime, Upsample
from vidgen.tokenizers.backbones.transformer import TransformerBlock
from vidgen.tokenizers.backbones.wan import (
    FoldedMean,
    PictureAttention,
    Stage,
    UnfoldedRepeat,
    WanDecoder,
    WanEncoder,
    WanOutput,
)


@dataclass(frozen=True, kw_only=True)
class Span:
    """The positions `first` to `last`, both included, of one axis."""

    first: int
    last: int

    def seen_by(self, kernel: int, stride: int, before: int) -> Span:
        """The input that a convolution with `before` positions of padding in front reads for this output."""
        return Span(first=self.first * stride - before, last=self.last * stride - before + kernel - 1)

    def shared(self, factor: int) -> Span:
        """The coarser positions that these are parts of, `factor` of them in each."""
        return Span(first=self.first // factor, last=self.last // factor)

    def halved(self) -> Span:
        """The input of nearest upsampling by two."""
        return self.shared(2)

    def scaled(self, factor: int) -> Span:
        """The finer positions that make these up, `factor` to one."""
        return Span(first=self.first * factor, last=self.last * factor + factor - 1)

    def windows(self, size: int, offset: int) -> Span:
        """All positions of the windows that hold these, with borders at `offset` and every `size` from there."""
        first, last = ((end - offset) // size * size + offset for end in (self.first, self.last))
        return Span(first=first, last=last + size - 1)


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


@look_back.register(ChannelNorm)
@look_back.register(RMSNorm)
def _(layer: nn.Module, box: Box) -> Box:
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
    if isinstance(layer.time, DoubleTime):
        return look_back(layer.time, box)
    if layer.time is not None:
        box = look_back(layer.time, box)
        box = replace(box, t=box.t and box.t.halved())
    return box


@look_back.register
def _(layer: HalveTime, box: Box) -> Box:
    return look_back(layer.conv, box) if _holds_only(layer, "conv") else EVERYTHING


@look_back.register
def _(layer: DoubleTime, box: Box) -> Box:
    if not _holds_only(layer, "conv"):
        return EVERYTHING
    box = look_back(layer.conv, replace(box, t=box.t and box.t.halved()))
    # A frame more: that of where decoding starts is not seen by any other, as it would be in the middle of a clip.
    return replace(box, t=box.t and Span(first=box.t.first - 1, last=box.t.last))


@look_back.register
def _(layer: Encoder, box: Box) -> Box:
    known = _holds_only(layer, "conv_in", "layers", "out")
    return chain([layer.conv_in, *layer.layers, layer.out], box) if known else EVERYTHING


@look_back.register
def _(layer: Decoder, box: Box) -> Box:
    known = _holds_only(layer, "conv_in", "layers", "out")
    return chain([layer.conv_in, *layer.layers, layer.out], box) if known else EVERYTHING


@look_back.register
def _(layer: FoldedMean, box: Box) -> Box:
    t, h, w = (span and span.scaled(n) for span, n in ((box.t, layer.t), (box.h, layer.s), (box.w, layer.s)))
    return Box(t=t, h=h, w=w)


@look_back.register
def _(layer: UnfoldedRepeat, box: Box) -> Box:
    t, h, w = (span and span.shared(n) for span, n in ((box.t, layer.t), (box.h, layer.s), (box.w, layer.s)))
    return Box(t=t, h=h, w=w)


@look_back.register
def _(layer: Stage, box: Box) -> Box:
    if not _holds_only(layer, "blocks", "step", "shortcut"):
        return EVERYTHING
    main = chain([*layer.blocks, *([layer.step] if layer.step is not None else [])], box)
    return main if layer.shortcut is None else hull([main, look_back(layer.shortcut, box)])


@look_back.register
def _(layer: WanOutput, box: Box) -> Box:
    return chain([layer.norm, layer.conv], box) if _holds_only(layer, "norm", "conv") else EVERYTHING


@look_back.register
def _(layer: WanEncoder, box: Box) -> Box:
    known = _holds_only(layer, "conv_in", "layers", "out", "mix")
    return chain([layer.conv_in, *layer.layers, layer.out, layer.mix], box) if known else EVERYTHING


@look_back.register
def _(layer: WanDecoder, box: Box) -> Box:
    known = _holds_only(layer, "mix", "conv_in", "layers", "out")
    return chain([layer.mix, layer.conv_in, *layer.layers, layer.out], box) if known else EVERYTHING


@look_back.register
def _(layer: PictureAttention, box: Box) -> Box:
    return Box(t=box.t, h=None, w=None) if _holds_only(layer, "norm", "to_qkv", "out") else EVERYTHING


@look_back.register
def _(layer: FrameAttention, box: Box) -> Box:
    return Box(t=box.t, h=None, w=None) if _holds_only(layer, "norm", "attention") else EVERYTHING


@look_back.register
def _(layer: WindowAttention, box: Box) -> Box:
    if not _holds_only(layer, "norm", "attention"):
        return EVERYTHING
    h, w = (span and span.windows(layer.window, layer.offset) for span in (box.h, box.w))
    return replace(box, h=h, w=w)


@look_back.register
def _(layer: CausalAttention, box: Box) -> Box:
    if not _holds_only(layer, "norm", "attention"):
        return EVERYTHING
    return replace(box, t=box.t and Span(first=box.t.first - layer.context, last=box.t.last))


@look_back.register
def _(layer: TransformerBlock, box: Box) -> Box:
    known = _holds_only(layer, "widen", "space", "time", "norm", "mlp")  # all but these two work position by position
    return chain([layer.space, layer.time], box) if known else EVERYTHING
