"""The settings of a tokenizer, saved beside its weights, and its name."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.tokenizers.backbones.registry import BACKBONE_SETTINGS, BACKBONES
from vidgen.tokenizers.bottlenecks import build_bottleneck, describe_size

FRONT_ENDS = ("patch", "haar")
CONVOLUTIONS = ("full", "factorised")


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """Shape of a tokenizer. Ratios follow: time patch_t * 2^sum(temporal), space patch * 2^(len(widths) - 1).

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
    backbone: str = "convolutional"
    attention: bool = False
    head_dim: int = 64
    window: int = 8
    time_window: int = 4
    plain_logvar: bool = False
    decoder_widths: tuple[int, ...] = ()
    shortcuts: bool = False

    def __post_init__(self) -> None:
        self._bottleneck_on_meta()
        choices = {"backbone": tuple(BACKBONES), "front_end": FRONT_ENDS, "convolution": CONVOLUTIONS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                kind = f"{name} kind" if name == "convolution" else name
                raise VidgenError(f"{kind} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}")
        self._check_counts()
        self._check_ratios()
        self._check_backbone()

    def _check_counts(self) -> None:
        for name in ("patch_t", "patch", "encoder_blocks", "decoder_blocks", "head_dim", "window", "time_window"):
            if not is_count(getattr(self, name)):
                raise VidgenError(f"{name}={getattr(self, name)!r} is not a whole number from 1; give one")
        if not self.widths or not all(is_count(width) for width in self.widths):
            raise VidgenError(f"widths={self.widths!r}: give a whole number from 1 for each stage, e.g. (96, 144)")
        wide = self.decoder_widths
        if wide and (len(wide) != len(self.widths) or not all(is_count(width) for width in wide)):
            raise VidgenError(
                f"decoder_widths={wide!r}: give a whole number from 1 for each of {len(self.widths)} stages, or none"
            )

    def _check_ratios(self) -> None:
        """Every power of two in time and in space is there, and any whole number where the patch holds the rest."""
        if len(self.temporal) != len(self.widths) - 1:
            raise VidgenError(
                f"temporal={self.temporal}: {len(self.widths)} widths halve height and width "
                f"{len(self.widths) - 1} times; say for each whether time is halved too"
            )
        for name in ("patch_t", "patch"):
            size = getattr(self, name)
            if self.front_end == "haar" and size & (size - 1):
                raise VidgenError(
                    f"{name}={size}: front_end 'haar' needs a power of two; choose one, or front_end 'patch'"
                )

    def _check_backbone(self) -> None:
        for backbone, names in BACKBONE_SETTINGS.items():
            for setting in fields(self):
                value = getattr(self, setting.name)
                if backbone != self.backbone and setting.name in names and value != setting.default:
                    raise VidgenError(
                        f"backbone {self.backbone!r} has no {setting.name} (given: {value}); leave it out"
                    )
        if self.backbone == "wan":
            self._check_wan()
        if self.backbone == "transformer":
            odd = [width for width in (*self.widths, *self.decoder_widths) if width % self.head_dim]
            if odd or self.head_dim % 4:
                raise VidgenError(
                    f"widths={self.widths} with head_dim={self.head_dim}: a transformer needs head_dim a multiple of 4 "
                    "and widths multiples of head_dim, e.g. widths=(384,) with head_dim=64"
                )

    def _check_wan(self) -> None:
        if (self.patch_t, self.front_end) != (1, "patch"):
            raise VidgenError(
                f"backbone 'wan' with patch_t={self.patch_t} and front_end {self.front_end!r}: its first frame is a "
                "latent of its own; set patch_t=1 and front_end='patch', and halve time by `temporal`"
            )
        for name in ("widths", "decoder_widths"):
            widths = getattr(self, name) or self.widths
            if not self.shortcuts and any(width % 2 for width in widths[1:]):
                raise VidgenError(f"{name}={widths}: backbone 'wan' halves widths on the way up; make them even")

    @property
    def temporal_compression_ratio(self) -> int:
        return self.patch_t * 2 ** sum(self.temporal)

    @property
    def spatial_compression_ratio(self) -> int:
        return self.patch * 2 ** (len(self.widths) - 1)

    @property
    def lead(self) -> int:
        """How many times a clip's first frame stands before itself to fill the patch of a latent, which is its own."""
        return 0 if self.backbone == "wan" else self.temporal_compression_ratio - 1

    @property
    def name(self) -> str:
        ratios = f"{self.temporal_compression_ratio}x{self.spatial_compression_ratio}x{self.spatial_compression_ratio}"
        return f"{self.bottleneck}_causal_{ratios}_{describe_size(self._bottleneck_on_meta(), self.latent_channels)}"

    def build_bottleneck(self) -> nn.Module:
        """The bottleneck of these settings. Raises VidgenError where they are not those that it needs."""
        names = ("codebook_size", "levels", "quantizers", "plain_logvar")
        settings = {name: getattr(self, name) for name in names}
        return build_bottleneck(self.bottleneck, self.latent_channels, **settings)

    def _bottleneck_on_meta(self) -> nn.Module:
        """The bottleneck without weights: the checks of its settings, and what they come to."""
        with torch.device("meta"):
            return self.build_bottleneck()


def is_count(value: object) -> bool:
    """Whether `value` is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
