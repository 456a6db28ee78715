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
class Interval:
    """The positions `first` to `last`, both included, of one axis."""

    first: int
    last: int

    def seen_by(self, kernel: int, stride: int, before: int) -> Interval:
        """The input that a convolution with `before` positions of padding in front reads for this output."""
        return Interval(first=self.first * stride - before, last=self.last * stride - before + kernel - 1)

    def shared(self, factor: int) -> Interval:
        """The coarser positions that these are parts of, `factor` of them in each."""
        return Interval(first=self.first // factor, last=self.last // factor)

    def halved(self) -> Interval:
        """The input of nearest upsampling by two."""
        return self.shared(2)

    def scaled(self, factor: int) -> Interval:
        """The finer positions that make these up, `factor` to one."""
        return Interval(first=self.first * factor, last=self.last * factor + factor - 1)

    def windows(self, size: int, offset: int) -> Interval:
        """All positions of the windows that hold these, with borders at `offset` and every `size` from there."""
        first, last = ((end - offset) // size * size + offset for end in (self.first, self.last))
        return Interval(first=first, last=last + size - 1)


@dataclass(frozen=True, kw_only=True)
class Region:
    """Positions on the three axes; None is all of an axis."""

    t: Interval | None
    h: Interval | None
    w: Interval | None


EVERYTHING = Region(t=None, h=None, w=None)


def union(boxes: Iterable[Region]) -> Region:
    """The smallest box that holds all of them."""

    def join(spans: list[Interval | None]) -> Interval | None:
        if None in spans:
            return None
        return Interval(first=min(span.first for span in spans), last=max(span.last for span in spans))

    boxes = list(boxes)
    return Region(t=join([b.t for b in boxes]), h=join([b.h for b in boxes]), w=join([b.w for b in boxes]))


def chain(layers: Iterable[nn.Module], box: Region) -> Region:
    """Through layers that run one after the other, given in that order."""
    for layer in reversed(list(layers)):
        box = receptive_field(layer, box)
    return box


def _holds_only(layer: nn.Module, *names: str) -> bool:
    """Whether the layer's parts are those that its rule below knows; a part added since must not be overlooked."""
    return {name for name, part in layer.named_children() if part is not None} <= set(names)


@singledispatch
def receptive_field(layer: nn.Module, box: Region) -> Region:
    """The input that `box` of the layer's output depends on; all of it, for a layer without a rule below."""
    return EVERYTHING


@receptive_field.register
def _(layer: nn.Identity, box: Region) -> Region:
    return box


@receptive_field.register(ChannelNorm)
@receptive_field.register(RMSNorm)
def _(layer: nn.Module, box: Region) -> Region:
    return box


@receptive_field.register
def _(layer: nn.Conv3d, box: Region) -> Region:
    before = [0, *layer.padding[1:]]
    before[0] = layer.context if isinstance(layer, CausalConv3d) else layer.padding[0]
    spans = [
        None if span is None else span.seen_by(kernel, stride, padding)
        for span, kernel, stride, padding in zip(
            (box.t, box.h, box.w), layer.kernel_size, layer.stride, before, strict=True
        )
    ]
    return Region(t=spans[0], h=spans[1], w=spans[2])


@receptive_field.register
def _(layer: CausalMix, box: Region) -> Region:
    return chain(layer.layers, box) if _holds_only(layer, "layers") else EVERYTHING


@receptive_field.register
def _(layer: ResidualBlock, box: Region) -> Region:
    if not _holds_only(layer, "norm1", "mix1", "norm2", "mix2", "skip"):
        return EVERYTHING
    main = chain([layer.norm1, layer.mix1, layer.norm2, layer.mix2], box)
    return union([main, receptive_field(layer.skip, box)])


@receptive_field.register
def _(layer: Output, box: Region) -> Region:
    if not _holds_only(layer, "skip", "norm", "conv"):
        return EVERYTHING
    return union([receptive_field(layer.skip, box), chain([layer.norm, layer.conv], box)])


@receptive_field.register
def _(layer: Downsample, box: Region) -> Region:
    if not _holds_only(layer, "space", "time"):
        return EVERYTHING
    return chain([layer.space, *([layer.time] if layer.time is not None else [])], box)


@receptive_field.register
def _(layer: Upsample, box: Region) -> Region:
    if not _holds_only(layer, "space", "time"):
        return EVERYTHING
    box = receptive_field(layer.space, box)
    box = replace(box, h=box.h and box.h.halved(), w=box.w and box.w.halved())
    if isinstance(layer.time, DoubleTime):
        return receptive_field(layer.time, box)
    if layer.time is not None:
        box = receptive_field(layer.time, box)
        box = replace(box, t=box.t and box.t.halved())
    return box


@receptive_field.register
def _(layer: HalveTime, box: Region) -> Region:
    return receptive_field(layer.conv, box) if _holds_only(layer, "conv") else EVERYTHING


@receptive_field.register
def _(layer: DoubleTime, box: Region) -> Region:
    if not _holds_only(layer, "conv"):
        return EVERYTHING
    box = receptive_field(layer.conv, replace(box, t=box.t and box.t.halved()))
    # A frame more: that of where decoding starts is not seen by any other, as it would be in the middle of a clip.
    return replace(box, t=box.t and Interval(first=box.t.first - 1, last=box.t.last))


@receptive_field.register
def _(layer: Encoder, box: Region) -> Region:
    known = _holds_only(layer, "conv_in", "layers", "out")
    return chain([layer.conv_in, *layer.layers, layer.out], box) if known else EVERYTHING


@receptive_field.register
def _(layer: Decoder, box: Region) -> Region:
    known = _holds_only(layer, "conv_in", "layers", "out")
    return chain([layer.conv_in, *layer.layers, layer.out], box) if known else EVERYTHING


@receptive_field.register
def _(layer: FoldedMean, box: Region) -> Region:
    t, h, w = (span and span.scaled(n) for span, n in ((box.t, layer.t), (box.h, layer.s), (box.w, layer.s)))
    return Region(t=t, h=h, w=w)


@receptive_field.register
def _(layer: UnfoldedRepeat, box: Region) -> Region:
    t, h, w = (span and span.shared(n) for span, n in ((box.t, layer.t), (box.h, layer.s), (box.w, layer.s)))
    return Region(t=t, h=h, w=w)


@receptive_field.register
def _(layer: Stage, box: Region) -> Region:
    if not _holds_only(layer, "blocks", "step", "shortcut"):
        return EVERYTHING
    main = chain([*layer.blocks, *([layer.step] if layer.step is not None else [])], box)
    return main if layer.shortcut is None else union([main, receptive_field(layer.shortcut, box)])


@receptive_field.register
def _(layer: WanOutput, box: Region) -> Region:
    return chain([layer.norm, layer.conv], box) if _holds_only(layer, "norm", "conv") else EVERYTHING


@receptive_field.register
def _(layer: WanEncoder, box: Region) -> Region:
    known = _holds_only(layer, "conv_in", "layers", "out", "mix")
    return chain([layer.conv_in, *layer.layers, layer.out, layer.mix], box) if known else EVERYTHING


@receptive_field.register
def _(layer: WanDecoder, box: Region) -> Region:
    known = _holds_only(layer, "mix", "conv_in", "layers", "out")
    return chain([layer.mix, layer.conv_in, *layer.layers, layer.out], box) if known else EVERYTHING


@receptive_field.register
def _(layer: PictureAttention, box: Region) -> Region:
    return Region(t=box.t, h=None, w=None) if _holds_only(layer, "norm", "to_qkv", "out") else EVERYTHING


@receptive_field.register
def _(layer: FrameAttention, box: Region) -> Region:
    return Region(t=box.t, h=None, w=None) if _holds_only(layer, "norm", "attention") else EVERYTHING


@receptive_field.register
def _(layer: WindowAttention, box: Region) -> Region:
    if not _holds_only(layer, "norm", "attention"):
        return EVERYTHING
    h, w = (span and span.windows(layer.window, layer.offset) for span in (box.h, box.w))
    return replace(box, h=h, w=w)


@receptive_field.register
def _(layer: CausalAttention, box: Region) -> Region:
    if not _holds_only(layer, "norm", "attention"):
        return EVERYTHING
    return replace(box, t=box.t and Interval(first=box.t.first - layer.context, last=box.t.last))


@receptive_field.register
def _(layer: TransformerBlock, box: Region) -> Region:
    known = _holds_only(layer, "widen", "space", "time", "norm", "mlp")  # all but these two work position by position
    return chain([layer.space, layer.time], box) if known else EVERYTHING
