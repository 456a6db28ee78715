"""A frozen encoder with what was learned beside it, as an `Encoder` of clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.models.adaptation.adapters import Adapters
from vidgen.models.adaptation.config import AdapterConfig, LoRAConfig, MemoryConfig, PromptConfig, TemporalConfig
from vidgen.models.adaptation.learned_tokens import Memory, Prompts
from vidgen.models.adaptation.temporal import ImageTower, TemporalAdaptation
from vidgen.models.adaptation.token_adaptation import LoRAAdaptation, TokenAdaptation
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.clip_encoder import Size, TrainedClips, patch_grid
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.models.placement import PlacedModule


@dataclass(frozen=True)
class AdaptationEntry:
    """A kind of adaptation: its `config` class, and what makes it of an encoder and such a config."""

    config: type
    adaptation: Callable[[Any, Any], TokenAdaptation | TemporalAdaptation]


ADAPTATIONS: dict[str, AdaptationEntry] = {
    "lora": AdaptationEntry(LoRAConfig, LoRAAdaptation),
    "adapter": AdaptationEntry(AdapterConfig, Adapters),
    "prompt": AdaptationEntry(PromptConfig, Prompts),
    "memory": AdaptationEntry(MemoryConfig, Memory),
    "temporal": AdaptationEntry(TemporalConfig, TemporalAdaptation),
}


@dataclass(frozen=True, kw_only=True)
class AdaptedShape:
    """What an adapted encoder is: the `kind` of adaptation with all its `settings`, the config of the `encoder` beside
    which, the clips (frames, height, width) and rate that it was trained at, its channels, and what a token stands for,
    (frames, height, width)."""

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    clip: tuple[Size, Size, Size]
    fps: float
    width: int
    patch: tuple[int, int, int]
    encoder: object


class AdaptedEncoder(TrainedClips, FeatureMixin, PlacedModule):
    """An encoder that stays as it is, and an adaptation, which alone takes gradients; layers are the encoder's.

    Args:
        encoder: A `VideoViT`, or for kind temporal an image model of another library. It is frozen from here on, and
            may have been changed by the adaptation (factors on its weights, patches inflated in time).
        kind: One of `ADAPTATIONS`.
        settings: Of that kind.
        clip: Frames, height and width of the clips of training.
        fps: Their rate.

    Raises VidgenError for a kind or settings that are not there, and for an encoder that the kind cannot adapt.
    """

    def __init__(self, encoder: ImageTower, kind: str, settings: dict[str, Any], *, clip: Grid, fps: float) -> None:
        super().__init__()
        if kind not in ADAPTATIONS:
            raise VidgenError(f"kind {kind!r} is unknown; choose one of {', '.join(ADAPTATIONS)}")
        entry = ADAPTATIONS[kind]
        config = config_from_dict(entry.config, settings, f"kind {kind}")
        if kind != "temporal" and not isinstance(encoder, VideoViT):
            raise VidgenError(f"kind {kind} is for a VideoViT, and {type(encoder).__name__} is none; choose temporal")
        if isinstance(encoder, VideoViT):
            encoder.check_dense()
        self.encoder = encoder.requires_grad_(False)
        frozen = encoder.config
        self.adaptation = entry.adaptation(self.encoder, config).to(self.encoder.device)
        if kind != "temporal":
            encoder.config = replace(encoder.config, clip=tuple(clip), fps=fps)  # what it is trained at from here on
        width, patch = self.adaptation.clip_shape(self.encoder)
        self.config = AdaptedShape(
            kind=kind, settings=asdict(config), clip=tuple(clip), fps=fps, width=width, patch=patch, encoder=frozen
        )
        self.train(False)

    def forward(self, video: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b n d"]:
        """Return the tokens of clips (b, 3, T, H, W), of the places in `keep` or of all; or the class tokens, where
        the adaptation has some. Raises VidgenError for hidden tokens where none may be."""
        if keep is not None:
            self.check_partial()
        return self.adaptation.tokens(self.encoder, video, keep)

    def train(self, mode: bool = True) -> AdaptedEncoder:
        """Put the adaptation in training mode; the encoder stays in evaluation, its statistics as they are."""
        super().train(mode)
        self.encoder.train(False)
        return self

    def fresh(self) -> AdaptedEncoder:
        """Return the same architecture with new random weights."""
        encoder = type(self.encoder)(self.encoder.config)
        settings = self.config.settings
        if self.config.kind == "temporal" and settings["inflate"] > 1:  # its config has them already
            settings = {**settings, "inflate": 1}
        return AdaptedEncoder(encoder, self.config.kind, settings, clip=self.config.clip, fps=self.config.fps)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The encoder's layers, and those of class tokens."""
        return self.adaptation.feature_info(self.encoder)

    def iter_features(self, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every layer."""
        yield from self.adaptation.iter_features(self.encoder, video)

    def grid_of(self, video: Tensor) -> Grid:
        """Return the tokens (t, h, w) of clips. Raises VidgenError for clips that patches do not fill, and where tokens
        stand for no patches."""
        self.check_dense()
        return patch_grid(tuple(video.shape[-3:]), self.config.patch)

    def check_partial(self) -> None:
        """Raise VidgenError where every token is needed."""
        self.adaptation.check_partial(self.encoder)

    def check_dense(self) -> None:
        """Raise VidgenError where tokens stand for no patches."""
        self.adaptation.check_dense(self.encoder)
