"""The settings of a key frame tokenizer, saved beside its weights, and its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from vidgen.bounds import Choice, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks import BOTTLENECKS, build_bottleneck, describe_size
from vidgen.tokenizers.config import Blocks, Codes, Levels, Quantizers, TokenizerConfig

PATCH = 4  # pixels: the side of the patches that frames are synthesized in


@dataclass(frozen=True, kw_only=True)
class KeyframeConfig(ConfigMapping):
    """Groups of `gop` frames: the first by the tokenizer `key` as a clip of one frame, the others as motion.

    A field has one vector for `block` x `block` pixels and one token of `bottleneck` for each vector; `codebook_size`,
    `levels` and `quantizers` are the bottleneck's, as in TokenizerConfig. `width` is that of the motion networks,
    `motion_blocks` their residual blocks on the grid of the field, `frame_blocks` on that of patches of 4 pixels.
    """

    key: TokenizerConfig = TokenizerConfig()
    gop: Annotated[int, Range(2, 2**16)] = 8
    block: Annotated[int, Range(PATCH, 4096)] = 16
    bottleneck: Annotated[str, Choice(BOTTLENECKS)] = "fsq"
    motion_channels: Width = 4
    codebook_size: Codes = 0
    levels: Levels = (8, 8, 5, 5)
    quantizers: Quantizers = 0
    width: Width = 64
    motion_blocks: Blocks = 2
    frame_blocks: Blocks = 2

    def __post_init__(self) -> None:
        if isinstance(self.key, dict):  # as JSON has it
            object.__setattr__(self, "key", config_from_dict(TokenizerConfig, self.key, "key"))
        check_fields(self)
        if self.block % PATCH:
            raise VidgenError(f"block={self.block}: choose a multiple of {PATCH}, e.g. 16 as codecs have it")
        self._bottleneck_on_meta()

    @property
    def name(self) -> str:
        """Sizes of groups and blocks, the motion's bottleneck with its size, and the key frames' tokenizer."""
        size = describe_size(self._bottleneck_on_meta(), self.motion_channels)
        return f"keyframes_{self.gop}x{self.block}x{self.block}_{self.bottleneck}_{size}_on_{self.key.name}"

    def build_bottleneck(self) -> nn.Module:
        """Return the bottleneck of the motion. Raises VidgenError where its settings are not those that it needs."""
        settings = {"codebook_size": self.codebook_size, "levels": self.levels, "quantizers": self.quantizers}
        return build_bottleneck(self.bottleneck, self.motion_channels, **settings)

    def _bottleneck_on_meta(self) -> nn.Module:
        with torch.device("meta"):
            return self.build_bottleneck()
