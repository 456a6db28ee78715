"""What encoders of fewer tokens have in common: around a `VideoViT`, of the same layers, described by two configs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.encoders.video_vit import PARTIAL, VideoViT, VideoViTConfig
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.models.placement import PlacedModule

Reduction = TypeVar("Reduction")


@dataclass(frozen=True, kw_only=True)
class ReducedShape:
    """The encoder's config and that of what reduces its tokens: a bank's hash is of both."""

    encoder: VideoViTConfig
    reduction: object


class ReducedEncoder(FeatureMixin, PlacedModule, Generic[Reduction]):
    """Base of a trained `VideoViT` that computes fewer tokens; an `Encoder` of its layers, with maps of the whole grid.

    It has no weights of its own: it is made around an encoder, and not saved. Raises VidgenError for an encoder of
    another mixer than `mixers`, and for one that reduces its tokens itself.
    """

    mixers: tuple[str, ...] = PARTIAL

    def __init__(self, encoder: VideoViT, reduction: Reduction) -> None:
        super().__init__()
        shape, name = encoder.config, type(self).__name__
        if shape.mixer not in self.mixers:
            raise VidgenError(f"{name} needs a mixer {' or '.join(self.mixers)}; this encoder's mixer is {shape.mixer}")
        if not shape.has_all_tokens:
            raise VidgenError(f"{name} needs an encoder of all tokens; this one learns or selects its own already")
        self.encoder, self.reduction = encoder, reduction
        self.config = ReducedShape(encoder=shape, reduction=reduction)
        self.num_frames, self.height, self.width, self.fps = (*shape.clip, shape.fps)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The encoder's own."""
        return self.encoder.feature_info

    def fresh(self) -> ReducedEncoder[Reduction]:
        """Return the same reduction of an encoder with new random weights."""
        return type(self)(VideoViT(self.encoder.config), self.reduction)

    def tokens_left(self, tokens: int) -> list[int]:
        """Return how many of so many tokens each block computes."""
        raise NotImplementedError

    def iter_features(self, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every block."""
        raise NotImplementedError
