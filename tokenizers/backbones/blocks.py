"""What the stages of an encoder and a decoder are made of: blocks, convolutional or of a transformer."""

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
