"""The settings of a tokenizer, saved beside its weights, and its name."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import torch
from torch import nn

from vidgen.bounds import Choice, Length, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.deprecation import renamed_fields
from vidgen.errors import VidgenError
from vidgen.tokenizers.backbones.convolutional import FRONT_ENDS
from vidgen.tokenizers.backbones.convolutions import CONVOLUTIONS
from vidgen.tokenizers.backbones.registry import BACKBONES, NetworkShape
from vidgen.tokenizers.bottlenecks import BOTTLENECKS, build_bottleneck, describe_size

Blocks = Annotated[int, Range(1, 256)]
Patch = Annotated[int, Range(1, 256)]
Codes = Annotated[int, Range(0, 2**24)]
Levels = Annotated[tuple[Annotated[int, Range(2, 2**16)], ...], Length(0, 64)]
Quantizers = Annotated[int, Range(0, 256)]
LARGEST_PATCH = 4096  # cells: the table of a front end has the square of it


@renamed_fields(ratio="spatial_compression_ratio", ratio_t="temporal_compression_ratio")
@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(ConfigMapping):
    """Shape of a tokenizer. Compression ratios follow from it: patch_t * 2^sum(temporal) in time, and in space
    patch * 2^(len(widths) - 1).

    `codebook_size` is for vq and residual, `levels` (one a latent channel) for fsq and residual, `quantizers` for
    residual; lfq and bsq have 2^latent_channels codes. Of kl, `plain_logvar` says that the encoder gives the
    log-variance itself. `encoder_blocks` and `decoder_blocks` are counted in a stage; `decoder_widths`, where given,
    are those of the decoder, and `widths` those of the encoder alone.

    Of the convolutional backbone: `convolution` "full" or "factorised", and `attention`, whether each latent frame
    attends to itself in the middle. Of the transformer: heads of `head_dim` channels, windows of `window` x `window`
    positions in space, and the last `time_window` frames of each position in time, the present one among them; each
    block's streaming state holds 2 * width * (time_window - 1) numbers a position. Of Wan's, which takes frames or
    patches of one: `shortcuts`, whether one without weights runs beside every stage (Wan 2.2).
    """

    latent_channels: Width = 16
    bottleneck: Annotated[str, Choice(BOTTLENECKS)] = "kl"
    front_end: Annotated[str, Choice(FRONT_ENDS)] = "haar"
    patch_t: Patch = 4
    patch: Patch = 4
    widths: Annotated[tuple[Width, ...], Length(1, 8)] = (96, 144)
    temporal: Annotated[tuple[bool, ...], Length(0, 7)] = (False,)
    encoder_blocks: Blocks = 2
    decoder_blocks: Blocks = 3
    convolution: Annotated[str, Choice(CONVOLUTIONS)] = "factorised"
    codebook_size: Codes = 0
    levels: Levels = ()
    quantizers: Quantizers = 0
    backbone: Annotated[str, Choice(BACKBONES)] = "convolutional"
    attention: bool = False
    head_dim: Width = 64
    window: Width = 8
    time_window: Width = 4
    plain_logvar: bool = False
    decoder_widths: Annotated[tuple[Width, ...], Length(0, 8)] = ()
    shortcuts: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        hidden_channels = self._bottleneck_on_meta().channels_in
        self._check_ratios()
        self._check_settings()
        BACKBONES[self.backbone].check(self._shape(hidden_channels), **self._settings)

    def _check_ratios(self) -> None:
        """Raise VidgenError for steps in time that do not match the stages, and for patches that have no wavelets."""
        if len(self.temporal) != len(self.widths) - 1:
            raise VidgenError(
                f"temporal={self.temporal}: {len(self.widths)} widths halve height and width "
                f"{len(self.widths) - 1} times; say for each whether time is halved too"
            )
        if self.decoder_widths and len(self.decoder_widths) != len(self.widths):
            raise VidgenError(
                f"decoder_widths={self.decoder_widths}: one for each of {len(self.widths)} stages, or none"
            )
        if (cells := self.patch_t * self.patch**2) > LARGEST_PATCH:
            raise VidgenError(
                f"patch_t={self.patch_t} and patch={self.patch} make {cells} cells, {LARGEST_PATCH} at most"
            )
        for name in ("patch_t", "patch"):
            size = getattr(self, name)
            if self.front_end == "haar" and size & (size - 1):
                raise VidgenError(
                    f"{name}={size}: front_end 'haar' needs a power of two; choose one, or front_end 'patch'"
                )

    def _check_settings(self) -> None:
        """Raise VidgenError for a setting that only another backbone has."""
        foreign = set().union(*(backbone.settings for backbone in BACKBONES.values())) - set(self._settings)
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.name in foreign and value != setting.default:
                raise VidgenError(f"backbone {self.backbone!r} has no {setting.name} (given: {value}); leave it out")

    @property
    def _settings(self) -> dict[str, Any]:
        """The settings of the backbone."""
        return {name: getattr(self, name) for name in BACKBONES[self.backbone].settings}

    def _shape(self, hidden_channels: int) -> NetworkShape:
        return NetworkShape(
            patch_channels=3 * self.patch_t * self.patch**2,
            hidden_channels=hidden_channels,
            latent_channels=self.latent_channels,
            encoder_widths=self.widths,
            decoder_widths=self.decoder_widths or self.widths,
            temporal=self.temporal,
            encoder_blocks=self.encoder_blocks,
            decoder_blocks=self.decoder_blocks,
            patch_t=self.patch_t,
            front_end=self.front_end,
        )

    @property
    def temporal_compression_ratio(self) -> int:
        """Frames that one latent frame stands for, but for the first."""
        return self.patch_t * 2 ** sum(self.temporal)

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels that one latent cell stands for, in height and in width."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def lead(self) -> int:
        """How many times a clip's first frame stands before itself to fill the patch of a latent, which is its own."""
        return 0 if BACKBONES[self.backbone].lone_first else self.temporal_compression_ratio - 1

    @property
    def name(self) -> str:
        """Bottleneck, compression ratios in time and space, and channels or codes."""
        ratios = f"{self.temporal_compression_ratio}x{self.spatial_compression_ratio}x{self.spatial_compression_ratio}"
        return f"{self.bottleneck}_causal_{ratios}_{describe_size(self._bottleneck_on_meta(), self.latent_channels)}"

    def build_networks(self, hidden_channels: int) -> tuple[nn.Module, nn.Module]:
        """Return encoder and decoder around a bottleneck that takes `hidden_channels`."""
        return BACKBONES[self.backbone].build(self._shape(hidden_channels), **self._settings)

    def build_bottleneck(self) -> nn.Module:
        """Return the bottleneck. Raises VidgenError where the settings are not those that it needs."""
        names = {name for bottleneck in BOTTLENECKS.values() for name in bottleneck.settings}
        settings = {setting.name: getattr(self, setting.name) for setting in fields(self) if setting.name in names}
        return build_bottleneck(self.bottleneck, self.latent_channels, **settings)

    def _bottleneck_on_meta(self) -> nn.Module:
        """Return the bottleneck without weights, which checks its settings and knows its size."""
        with torch.device("meta"):
            return self.build_bottleneck()
