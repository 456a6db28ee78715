"""The settings of a tokenizer, saved beside its weights, and its name."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks import build_bottleneck, describe_size


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Shape of a tokenizer. Ratios follow: time patch_t * 2^sum(temporal), space patch * 2^(len(widths) - 1).

    `codebook_size` is for vq and residual, `levels` (one a latent channel) for fsq and residual, `quantizers` for
    residual; lfq and bsq have 2^latent_channels codes.
    """

    latent_channels: int = 16
    bottleneck: str = "kl"
    front_end: str = "haar"
    patch_t: int = 4
    patch: int = 4
    widths: tuple[int, ...] = (96, 144)
    temporal: tuple[bool, ...] = (False,)
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    convolution: str = "factorised"
    codebook_size: int = 0
    levels: tuple[int, ...] = ()
    quantizers: int = 0

    def __post_init__(self) -> None:
        self._bottleneck_on_meta()
        if len(self.temporal) != len(self.widths) - 1:
            raise VidgenError(f"{len(self.widths)} widths need {len(self.widths) - 1} temporal flags: {self.temporal}")

    @property
    def ratio_t(self) -> int:
        return self.patch_t * 2 ** sum(self.temporal)

    @property
    def ratio(self) -> int:
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def name(self) -> str:
        ratios = f"{self.ratio_t}x{self.ratio}x{self.ratio}"
        return f"{self.bottleneck}_causal_{ratios}_{describe_size(self._bottleneck_on_meta(), self.latent_channels)}"

    def build_bottleneck(self) -> nn.Module:
        """The bottleneck of these settings. Raises VidgenError where they are not those that it needs."""
        settings = {"codebook_size": self.codebook_size, "levels": self.levels, "quantizers": self.quantizers}
        return build_bottleneck(self.bottleneck, self.latent_channels, **settings)

    def _bottleneck_on_meta(self) -> nn.Module:
        """The bottleneck without weights: the checks of its settings, and what they come to."""
        with torch.device("meta"):
            return self.build_bottleneck()
