"""The shape of a generator of clips with a foreground that moves and a background that stands."""

from __future__ import annotations

from dataclasses import dataclass

from vidgen.bounds import Fps, Frames, NoOrWidth, Side, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError

SMALLEST = 4  # cells of the shorter side of the first stage's maps, as in Vondrick et al. 2016


@dataclass(frozen=True, kw_only=True)
class SplitGeneratorConfig(ConfigMapping):
    """Shape of a `SplitGenerator`: of its clips (`num_frames`, `height`, `width` in pixels, `fps`), and of itself.

    `channels` are those of the last hidden maps; each stage before has twice as many. `noise_channels` is the width of
    z, `text_width` that of text tokens, 0 for none. Raises VidgenError for sizes that stages of doublings do not reach.
    """

    num_frames: Frames = 16
    height: Side = 64
    width: Side = 64
    fps: Fps = 8.0
    channels: Width = 64
    noise_channels: Width = 100
    text_width: NoOrWidth = 0

    def __post_init__(self) -> None:
        check_fields(self)
        scale = 2**self.stages
        if self.stages < 1 or self.height % scale or self.width % scale or self.num_frames % scale:
            raise VidgenError(
                f"a clip of {self.num_frames} frames of {self.height}x{self.width} is not made by doubling maps of "
                f"{SMALLEST} cells or a little more: the frames and both sides must be multiples of {max(2, scale)}"
            )

    @property
    def stages(self) -> int:
        """How often maps are doubled."""
        return (min(self.height, self.width) // SMALLEST).bit_length() - 1

    @property
    def first_maps(self) -> tuple[int, int, int]:
        """Frames, height and width of the first stage's maps."""
        scale = 2**self.stages
        return self.num_frames // scale, self.height // scale, self.width // scale

    @property
    def stage_channels(self) -> list[int]:
        """Channels of the maps of each stage, falling."""
        return [self.channels * 2**i for i in reversed(range(self.stages))]
