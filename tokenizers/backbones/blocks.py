"""Backbones by name: what the stages of an encoder and a decoder are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import nn

from vidgen.tokenizers.backbones.convolutions import ResidualBlock
from vidgen.tokenizers.backbones.transformer import TransformerBlock

if TYPE_CHECKING:
    from vidgen.tokenizers.config import TokenizerConfig

# A block of these widths in and out; the last argument is its place among all blocks of its network.
MakeBlock = Callable[[int, int, int], nn.Module]


def convolutional_blocks(config: TokenizerConfig) -> MakeBlock:
    """`ResidualBlock`s."""
    return lambda c_in, c_out, place: ResidualBlock(c_in, c_out, config.convolution)


def transformer_blocks(config: TokenizerConfig) -> MakeBlock:
    """`TransformerBlock`s, every second one with shifted windows."""
    settings = {"head_dim": config.head_dim, "window": config.window, "time_window": config.time_window}
    return lambda c_in, c_out, place: TransformerBlock(c_in, c_out, shifted=place % 2 == 1, **settings)


BACKBONES: dict[str, Callable[[TokenizerConfig], MakeBlock]] = {
    "convolutional": convolutional_blocks,
    "transformer": transformer_blocks,
}
# Settings that only one backbone has a use for.
BACKBONE_SETTINGS: dict[str, tuple[str, ...]] = {
    "convolutional": ("convolution", "attention"),
    "transformer": ("head_dim", "window", "time_window"),
}
