"""Receptive fields: which region of its input each kind of layer reads for a region of its output.

A layer without a rule here reads everything, and so does one with a part that its rule does not know: a part added
later must not be overlooked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import singledispatch
from typing import TypeVar

from torch import nn

from vidgen.tokenizers.backbones.attention import CausalAttention, FrameAttention, WindowAttention
from vidgen.tokenizers.backbones.convolutional import Decoder, Encoder, Output
from vidgen.tokenizers.backbones.convolutions import CausalConv3d, CausalMix, ChannelNorm, ResidualBlock
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
from vidgen.tokenizers.streaming.regions import EVERYTHING, Interval, Region, union

Layer = TypeVar("Layer", bound=nn.Module)
Rule = Callable[[Layer, Region], Region]


@singledispatch
def receptive_field(layer: nn.Module, region: Region) -> Region:
    """Return the input that `region` of the layer's output depends on; all of it, for a layer without a rule below."""
    return EVERYTHING


def chain(layers: Iterable[nn.Module], region: Region) -> Region:
    """Return the receptive field of layers that run one after the other, given in that order."""
    for layer in reversed(list(layers)):
        region = receptive_field(layer, region)
    return region


def rule(kind: type[Layer], *parts: str) -> Callable[[Rule], Rule]:
    """Register a rule for layers of `kind` that have no parts but those named."""

    def register(field: Rule) -> Rule:
        def checked(layer: Layer, region: Region) -> Region:
            present = {name for name, part in layer.named_children() if part is not None}
            return field(layer, region) if present <= set(parts) else EVERYTHING

        receptive_field.register(kind, checked)
        return field

    return register


def sequential(kind: type[nn.Module], *parts: str) -> None:
    """Register layers of `kind` as a chain of the parts named, in the order that they run; lists are chains too."""

    def field(layer: nn.Module, region: Region) -> Region:
        layers: list[nn.Module] = []
        for name in parts:
            part = getattr(layer, name)
            layers += part if isinstance(part, nn.ModuleList) else [] if part is None else [part]
        return chain(layers, region)

    rule(kind, *parts)(field)


sequential(CausalMix, "layers")
sequential(Downsample, "space", "time")
sequential(HalveTime, "conv")
sequential(Encoder, "conv_in", "layers", "out")
sequential(Decoder, "conv_in", "layers", "out")
sequential(WanOutput, "norm", "conv")
sequential(WanEncoder, "conv_in", "layers", "out", "mix")
sequential(WanDecoder, "mix", "conv_in", "layers", "out")


@receptive_field.register(nn.Identity)
@receptive_field.register(ChannelNorm)
@receptive_field.register(RMSNorm)
def _(layer: nn.Module, region: Region) -> Region:
    return region


@rule(nn.Conv3d)
def _(layer: nn.Conv3d, region: Region) -> Region:
    padding = [layer.context if isinstance(layer, CausalConv3d) else layer.padding[0], *layer.padding[1:]]
    axes = zip((region.t, region.h, region.w), layer.kernel_size, layer.stride, padding, strict=True)
    t, h, w = (interval and interval.before_convolution(*sizes) for interval, *sizes in axes)
    return Region(t=t, h=h, w=w)


@rule(ResidualBlock, "norm1", "mix1", "norm2", "mix2", "skip")
def _(layer: ResidualBlock, region: Region) -> Region:
    main = chain([layer.norm1, layer.mix1, layer.norm2, layer.mix2], region)
    return union([main, receptive_field(layer.skip, region)])


@rule(Output, "skip", "norm", "conv")
def _(layer: Output, region: Region) -> Region:
    return union([receptive_field(layer.skip, region), chain([layer.norm, layer.conv], region)])


@rule(Upsample, "space", "time")
def _(layer: Upsample, region: Region) -> Region:
    region = receptive_field(layer.space, region)
    region = replace(region, h=region.h and region.h.coarser(2), w=region.w and region.w.coarser(2))
    if layer.time is None:
        return region
    region = receptive_field(layer.time, region)
    # `DoubleTime` doubles by itself; before any other layer, frames are repeated.
    return region if isinstance(layer.time, DoubleTime) else replace(region, t=region.t and region.t.coarser(2))


@rule(DoubleTime, "conv")
def _(layer: DoubleTime, region: Region) -> Region:
    region = receptive_field(layer.conv, replace(region, t=region.t and region.t.coarser(2)))
    # A frame more: that of where decoding starts is not seen by any other, as it would be in the middle of a clip.
    return replace(region, t=region.t and Interval(first=region.t.first - 1, last=region.t.last))


@rule(FoldedMean)
def _(layer: FoldedMean, region: Region) -> Region:
    factors = (layer.t, layer.s, layer.s)
    t, h, w = (i and i.finer(n) for i, n in zip((region.t, region.h, region.w), factors, strict=True))
    return Region(t=t, h=h, w=w)


@rule(UnfoldedRepeat)
def _(layer: UnfoldedRepeat, region: Region) -> Region:
    factors = (layer.t, layer.s, layer.s)
    t, h, w = (i and i.coarser(n) for i, n in zip((region.t, region.h, region.w), factors, strict=True))
    return Region(t=t, h=h, w=w)


@rule(Stage, "blocks", "step", "shortcut")
def _(layer: Stage, region: Region) -> Region:
    main = chain([*layer.blocks, *([layer.step] if layer.step is not None else [])], region)
    return main if layer.shortcut is None else union([main, receptive_field(layer.shortcut, region)])


@rule(PictureAttention, "norm", "to_qkv", "out")
@rule(FrameAttention, "norm", "attention")
def _(layer: PictureAttention | FrameAttention, region: Region) -> Region:
    return Region(t=region.t, h=None, w=None)


@rule(WindowAttention, "norm", "attention")
def _(layer: WindowAttention, region: Region) -> Region:
    h, w = (interval and interval.windows(layer.window, layer.offset) for interval in (region.h, region.w))
    return replace(region, h=h, w=w)


@rule(CausalAttention, "norm", "attention")
def _(layer: CausalAttention, region: Region) -> Region:
    return replace(region, t=region.t and Interval(first=region.t.first - layer.context, last=region.t.last))


@rule(TransformerBlock, "widen", "space", "time", "norm", "mlp")
def _(layer: TransformerBlock, region: Region) -> Region:
    return chain([layer.space, layer.time], region)  # all other parts work position by position
