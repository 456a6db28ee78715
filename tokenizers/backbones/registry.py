"""Backbones by name: the encoder and the decoder of a tokenizer's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from vidgen.tokenizers.backbones.blocks import MakeBlock, convolutional_blocks, transformer_blocks
from vidgen.tokenizers.backbones.convolutional import Decoder, Encoder
from vidgen.tokenizers.backbones.wan import WanDecoder, WanEncoder

if TYPE_CHECKING:
    from vidgen.tokenizers.config import TokenizerConfig

# The settings, the channels of patches and those of the bottleneck's input: encoder and decoder.
BuildNetworks = Callable[["TokenizerConfig", int, int], tuple[nn.Module, nn.Module]]


def networks_of(make_blocks: Callable[[TokenizerConfig], MakeBlock]) -> BuildNetworks:
    """`Encoder` and `Decoder` of these blocks."""

    def build(config: TokenizerConfig, patch_channels: int, hidden: int) -> tuple[nn.Module, nn.Module]:
        make_block, c = make_blocks(config), config
        encoder = Encoder(
            patch_channels, hidden, c.widths, c.temporal, c.encoder_blocks, make_block, attention=c.attention
        )
        decoder = Decoder(
            c.latent_channels,
            patch_channels,
            c.decoder_widths or c.widths,
            c.temporal,
            c.decoder_blocks,
            make_block,
            attention=c.attention,
        )
        return encoder, decoder

    return build


def wan_networks(config: TokenizerConfig, patch_channels: int, hidden: int) -> tuple[nn.Module, nn.Module]:
    """`WanEncoder` and `WanDecoder`."""
    c, rest = config, {"temporal": config.temporal, "shortcuts": config.shortcuts}
    return (
        WanEncoder(patch_channels, hidden, c.widths, blocks=c.encoder_blocks, **rest),
        WanDecoder(c.latent_channels, patch_channels, c.decoder_widths or c.widths, blocks=c.decoder_blocks, **rest),
    )


BACKBONES: dict[str, BuildNetworks] = {
    "convolutional": networks_of(convolutional_blocks),
    "transformer": networks_of(transformer_blocks),
    "wan": wan_networks,
}
# Settings that only one backbone has a use for.
BACKBONE_SETTINGS: dict[str, tuple[str, ...]] = {
    "convolutional": ("convolution", "attention"),
    "transformer": ("head_dim", "window", "time_window"),
    "wan": ("shortcuts",),
}
