"""What encoders of other libraries have in common: clips in, maps by layer out, and what the model was trained at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.models.placement import PlacedModule


@dataclass(frozen=True, kw_only=True)
class ExternalConfig(ConfigMapping):
    """A model of another library: its type, its own settings, and those of its processor, as its files have them."""

    model_type: str
    settings: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)


class ExternalEncoder(FeatureMixin, PlacedModule):
    """A pretrained image or video model as an `Encoder`; built from its config alone, it has random weights.

    Clips (b, 3, T, H, W) in [-1, 1] become 8-bit frames again, and go through the model's own processor, which sizes,
    crops and normalizes them. Layers are "layers.<i>", the output of block i; "last", the model's own last hidden
    state; and, of transformers' models, "embeddings", the input of the first block. Maps hold the patches alone: class,
    distillation and register tokens are left out. Reductions are in frames, and in pixels as the processor sizes them.

    `num_frames`, `height`, `width`: the clips it was trained at, before the processor crops them; `num_frames` None is
    an image model, run frame by frame. `fixed_frames`: whether it takes no other number. `fps` None: any rate.
    """

    fps: ClassVar[float | None] = None
    num_frames: int | None
    height: int
    width: int
    fixed_frames: bool = False

    def __init__(self, config: ExternalConfig) -> None:
        super().__init__()
        self.config = config

    def describe_layers(self, names: list[str], num_chs: int, reduction: tuple[int, int, int]) -> list[FeatureInfo]:
        """Return a layer for each name, all of one width and grid; only frames read one by one never see later ones."""
        causal = self.num_frames is None
        return [
            FeatureInfo(name=name, num_chs=num_chs, reduction=reduction, module="encoder", causal=causal)
            for name in names
        ]

    def check_frames(self, count: int, tubelet: int = 1) -> None:
        """Raise VidgenError for a number of frames that the model cannot take; none is dropped or repeated."""
        if self.fixed_frames and count != self.num_frames:
            raise VidgenError(
                f"{self.config.model_type} takes clips of {self.num_frames} frames, not {count}; give --num-frames "
                f"{self.num_frames}, with --windows sliding for all of a longer clip"
            )
        if count % tubelet:
            raise VidgenError(
                f"{self.config.model_type} takes frames by {tubelet}, and {count} is no multiple of it; give "
                f"--num-frames {count + tubelet - count % tubelet}"
            )

    @property
    def block_modules(self) -> dict[str, nn.Module]:
        """What makes the layers, by their names: modules that give tokens (n, l, c) or maps (n, c, h, w), or a tuple
        with these first."""
        raise NotImplementedError

    def forward(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c t h w"]:
        """Return the map of the last layer."""
        *_, (_, last) = self.iter_features(video)
        return last

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every layer."""
        raise NotImplementedError
