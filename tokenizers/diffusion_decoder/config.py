"""The settings of a diffusion tokenizer, saved beside its weights, and its name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from vidgen.bounds import Choice, Depth, InferenceSteps, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping, renamed_field
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.deprecation import renamed_fields
from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.prediction_types import FORMER_PREDICTION_TYPES, read_prediction_type
from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiTConfig
from vidgen.tokenizers.config import TokenizerConfig

CONTINUOUS = ("ae", "kl")
# Not "epsilon": at pure noise alpha is 0, and no x0 follows from what the noise is, where sampling has to start.
PREDICTED = ("sample", "flow_prediction", "v_prediction")


@renamed_fields(ratio="spatial_compression_ratio", ratio_t="temporal_compression_ratio")
@dataclass(frozen=True, kw_only=True)
class DiffusionTokenizerConfig(ConfigMapping):
    """Shape of a DiffusionTokenizer.

    `tokenizer` gives encoder and bottleneck; what it says of a decoder is not used. The denoiser, a VideoDiT of
    `width`, `depth` and `head_dim`, works on patches of `patch_t` frames and `patch` x `patch` pixels, `window` frames
    of patches at once. `hold_first` is the share of training clips whose first frame is given clean, as long clips are
    decoded: window by window, each from the last frame of the one before; 0 decodes their windows independently.
    `prediction_type` is what the denoiser predicts; "sample" by default, since the noise of a patch has more numbers
    than the network is wide (Li & He 2025). `time` is how noise levels are spread, in training and in decoding.
    """

    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    patch_t: Width = 4
    patch: Width = 8
    width: Width = 192
    depth: Depth = 6
    head_dim: Width = 48
    window: Annotated[int, Range(2, 2**16)] = 5
    hold_first: Annotated[float, Range(0.0, 1.0, below=True)] = 0.2
    prediction_type: Annotated[str, Choice(PREDICTED)] = renamed_field(
        "parametrisation", former_values=FORMER_PREDICTION_TYPES, default="sample"
    )
    # Uniform: a logit-normal density vanishes at pure noise, where sampling starts and features alone say anything.
    time: TimeDistribution = field(default_factory=lambda: TimeDistribution(shift=3.0))
    num_inference_steps: InferenceSteps = 8

    def __post_init__(self) -> None:
        for name, kind in (("tokenizer", TokenizerConfig), ("time", TimeDistribution)):
            if isinstance(value := getattr(self, name), dict):  # as JSON and recipes have them
                object.__setattr__(self, name, config_from_dict(kind, value, f"key `{name}` of a diffusion tokenizer"))
        object.__setattr__(self, "prediction_type", read_prediction_type(self.prediction_type))
        check_fields(self)
        inner = self.tokenizer
        if inner.bottleneck not in CONTINUOUS:
            raise VidgenError(
                f"bottleneck {inner.bottleneck!r}: features of a diffusion tokenizer are continuous; choose one of "
                f"{', '.join(CONTINUOUS)}"
            )
        frames, pixels = inner.temporal_compression_ratio, inner.spatial_compression_ratio
        if frames % self.patch_t or pixels % self.patch:
            raise VidgenError(
                f"patches of {self.patch_t} frames and {self.patch} pixels do not divide the cell of a feature, "
                f"{frames} frames and {pixels} pixels: set patch_t and patch to divisors"
            )
        if self.time.path != "flow":
            raise VidgenError(f"path {self.time.path!r} of key `time`: a diffusion tokenizer has the flow path only")
        self.denoiser  # noqa: B018 (its own checks)

    @property
    def latent_channels(self) -> int:
        """Channels of a feature."""
        return self.tokenizer.latent_channels

    @property
    def temporal_compression_ratio(self) -> int:
        """Frames that one latent frame stands for, but for the first."""
        return self.tokenizer.temporal_compression_ratio

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels that one latent cell stands for, in height and in width."""
        return self.tokenizer.spatial_compression_ratio

    @property
    def patches_per_feature(self) -> tuple[int, int, int]:
        """Patches (t, h, w) that one feature stands for."""
        side = self.spatial_compression_ratio // self.patch
        return self.temporal_compression_ratio // self.patch_t, side, side

    @property
    def denoiser(self) -> VideoDiTConfig:
        """The denoiser's own config: patches are its cells, each with the features of its place."""
        return VideoDiTConfig(
            latent_channels=3 * self.patch_t * self.patch**2,
            patch=(1, 1, 1),
            width=self.width,
            depth=self.depth,
            head_dim=self.head_dim,
            text_width=0,
            feature_channels=self.latent_channels,
        )

    @property
    def name(self) -> str:
        """The name of the encoder's tokenizer, and "diffusion"."""
        return f"{self.tokenizer.name}_diffusion"
