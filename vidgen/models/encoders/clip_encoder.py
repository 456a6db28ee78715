"""What encoders of ours have in common: tokens of a grid of patches, and the clips that they were trained at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Protocol

from jaxtyping import Float, Int
from torch import Tensor

from vidgen.bounds import Range
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.interfaces import TokenShape
from vidgen.models.attention_patterns import Grid
from vidgen.models.feature_layers import FeatureMixin

Size = Annotated[int, Range(1, 4096)]


class ClipEncoderConfig(TokenShape, Protocol):
    """The shape of tokens and clips, and `fps`, the rate of clips of training."""

    fps: float


class TrainedClips:
    """The clips that an encoder was trained at, as its config has them: a `ClipFormat`."""

    config: ClipEncoderConfig

    @property
    def num_frames(self) -> int:
        """Of the clips of training."""
        return self.config.clip[0]

    @property
    def height(self) -> int:
        """Of the clips of training."""
        return self.config.clip[1]

    @property
    def width(self) -> int:
        """Of the clips of training."""
        return self.config.clip[2]

    @property
    def fps(self) -> float:
        """Of the clips of training."""
        return self.config.fps


class ClipEncoder(TrainedClips, FeatureMixin, Pretrained):
    """An encoder that is trained here: clips in, a token for every patch out; an `Encoder` and a `ClipFormat`."""

    config: ClipEncoderConfig

    def forward(self, video: Tensor, keep: Int[Tensor, "b k"] | None = None) -> Float[Tensor, "b k d"]:
        """Return the normed tokens of the last layer, of the places in `keep` or of all, (t, h, w) in order.

        Raises VidgenError for clips that patches do not fill, and for hidden tokens where all are needed.
        """
        raise NotImplementedError

    def check_partial(self) -> None:
        """Raise VidgenError where the encoder needs every token."""

    def check_dense(self) -> None:
        """Raise VidgenError where the tokens are not those of the places of the grid."""

    def grid_of(self, video: Tensor) -> Grid:
        """Return the tokens (t, h, w) of clips. Raises VidgenError for clips that patches do not fill."""
        return patch_grid(tuple(video.shape[-3:]), self.config.patch)


def patch_grid(size: Grid, patch: Grid) -> Grid:
    """Return the patches (t, h, w) of clips of a size. Raises VidgenError for clips that patches do not fill."""
    if any(n % p for n, p in zip(size, patch, strict=True)):
        raise VidgenError(
            f"clips of {size} (frames, height, width) are no multiple of the encoder's patches {patch}; crop them"
        )
    return tuple(n // p for n, p in zip(size, patch, strict=True))


def refuse_partial(what: str, choices: Sequence[Any]) -> None:
    """Raise VidgenError for an encoder that needs every token."""
    raise VidgenError(f"{what} needs every token, and a mask hides some; choose {' or '.join(choices)}")
