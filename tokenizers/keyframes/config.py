"""The settings of a key frame tokenizer, saved beside its weights, and its name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks import build_bottleneck, describe_size
from vidgen.tokenizers.config import TokenizerConfig

PATCH = 4  # pixels: the side of the patches that frames are synthesized in


@dataclass(frozen=True, kw_only=True)
class KeyframeConfig:
    """Groups of `gop` frames: the first by the tokenizer `key` as a clip of one frame, the others as motion.

    A field has one vector for `block` x `block` pixels and one token of `bottleneck` for each vector; `codebook_size`,
    `levels` and `quantizers` are the bottleneck's, as in TokenizerConfig. `width` is that of the motion networks,
    `motion_blocks` their residual blocks on the grid of the field, `frame_blocks` on that of patches of 4 pixels.
    """

    key: TokenizerConfig = TokenizerConfig()
    gop: int = 8
    block: int = 16
    bottleneck: str = "fsq"
    motion_channels: int = 4
    codebook_size: int = 0
    levels: tuple[int, ...] = (8, 8, 5, 5)
    quantizers: int = 0
    width: int = 64
    motion_blocks: int = 2
    frame_blocks: int = 2

    def __post_init__(self) -> None:
        if isinstance(self.key, dict):  # as JSON has it
            object.__setattr__(self, "key", config_from_dict(TokenizerConfig, self.key, "key"))
        if self.gop < 2:
            raise VidgenError(f"gop={self.gop}: a group has a key frame and one frame more at least; choose 2 or more")
        if self.block < PATCH or self.block % PATCH:
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
