"""VideoResNet: convolutions over space and time, together or one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.bounds import Choice, Depth, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError
from vidgen.models.encoders.clip_encoder import ClipEncoder, Size, refuse_partial
from vidgen.models.feature_layers import FeatureInfo

CONVOLUTIONS = ("2plus1d", "3d")
Map = Float[Tensor, "b c t h w"]


@dataclass(frozen=True, kw_only=True)
class VideoResNetConfig(ConfigMapping):
    """Shape of a `VideoResNet`; `patch` is (t, h, w) in frames and pixels of a cell of the last layer.

    patch: powers of two, of height and width the same one, 2^s: each of s stages halves both, and the last ones time.
    width: channels of the last stage; each one before has half of them.
    depth: residual blocks, spread over the stages, the first ones with one more.
    convolution: "3d", or "2plus1d": over space, then over time, with as many weights (Tran et al. 2018, R(2+1)D).
    clip: frames, height and width that it was trained at, and `fps`, frames a second.
    """

    patch: tuple[Size, Size, Size] = (2, 8, 8)
    width: Width = 144
    depth: Depth = 6
    convolution: Annotated[str, Choice(CONVOLUTIONS)] = "2plus1d"
    clip: tuple[Size, Size, Size] = (16, 64, 64)
    fps: Annotated[float, Range(0.0, 1000.0, above=True)] = 8.0

    def __post_init__(self) -> None:
        check_fields(self)
        t, h, w = self.patch
        if h != w or h < 2 or h & (h - 1) or t & (t - 1) or t > h:
            raise VidgenError(
                f"patch={self.patch} of a resnet: give powers of two, height = width >= 2, frames <= both"
            )
        if self.depth < self.stages:
            raise VidgenError(f"depth={self.depth} is less than the {self.stages} stages that patch={self.patch} needs")
        if self.width % 2 ** (self.stages - 1):
            raise VidgenError(f"width={self.width} is not to be halved {self.stages - 1} times, once a stage")

    @property
    def stages(self) -> int:
        """How often height and width are halved."""
        return self.patch[1].bit_length() - 1

    @property
    def layout(self) -> list[tuple[int, int, tuple[int, int, int]]]:
        """Channels, blocks and stride of each stage."""
        timed = self.stages - (self.patch[0].bit_length() - 1)
        return [
            (
                self.width // 2 ** (self.stages - 1 - i),
                self.depth // self.stages + (i < self.depth % self.stages),
                (2 if i >= timed else 1, 2, 2),
            )
            for i in range(self.stages)
        ]


class ChannelNorm(nn.LayerNorm):
    """A norm over the channels of every place alone: no clip and no frame sees another by way of it."""

    def forward(self, x: Map) -> Map:
        """Return the map."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def factorised_channels(channels_in: int, channels_out: int) -> int:
    """Return the channels between a convolution of 1x3x3 and one of 3x1x1 that together have as many weights as one of
    3x3x3 (Tran et al. 2018, section 3.5: floor(t d^2 N M / (d^2 N + t M)))."""
    return 27 * channels_in * channels_out // (9 * channels_in + 3 * channels_out)


def make_convolution(kind: str, channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> nn.Module:
    """Return a convolution of 3x3x3, or one over space, a norm, a ReLU and one over time."""
    if kind == "3d":
        return nn.Conv3d(channels_in, channels_out, 3, stride, padding=1, bias=False)
    middle, (t, h, w) = factorised_channels(channels_in, channels_out), stride
    return nn.Sequential(
        nn.Conv3d(channels_in, middle, (1, 3, 3), (1, h, w), padding=(0, 1, 1), bias=False),
        ChannelNorm(middle),
        nn.ReLU(),
        nn.Conv3d(middle, channels_out, (3, 1, 1), (t, 1, 1), padding=(1, 0, 0), bias=False),
    )


class ResidualBlock(nn.Module):
    """Two convolutions with a norm and a ReLU before each, beside the identity (He et al. 2016, Identity Mappings)."""

    def __init__(self, kind: str, channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels_in), ChannelNorm(channels_out)
        self.conv1 = make_convolution(kind, channels_in, channels_out, stride)
        self.conv2 = make_convolution(kind, channels_out, channels_out, (1, 1, 1))
        same = channels_in == channels_out and stride == (1, 1, 1)
        self.shortcut = nn.Identity() if same else nn.Conv3d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, x: Map) -> Map:
        """Return the block's output."""
        y = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return self.shortcut(x) + y


class VideoResNet(ClipEncoder):
    """A residual network over clips (Tran et al. 2018: R3D and R(2+1)D, here with blocks that norm first, channels of a
    place alone, so that batches do not matter). Layers are "blocks.<i>". It takes whole clips, and no part of them."""

    config_class = VideoResNetConfig
    config: VideoResNetConfig

    def __init__(self, config: VideoResNetConfig) -> None:
        super().__init__(config)
        channels, blocks, self.strides = config.layout[0][0], [], []
        self.stem = make_convolution(config.convolution, 3, channels, config.layout[0][2])
        for stage, (width, count, stride) in enumerate(config.layout):
            for i in range(count):
                step = stride if stage and i == 0 else (1, 1, 1)
                blocks.append(ResidualBlock(config.convolution, channels, width, step))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.norm_out = nn.LayerNorm(config.width)

    def forward(self, video: Float[Tensor, "b 3 T H W"], keep: Int[Tensor, "b k"] | None = None) -> Tensor:
        """Return the normed cells of the last block as tokens (b, n, d), (t, h, w) in order.

        Raises VidgenError for clips that patches do not fill, and for hidden tokens.
        """
        if keep is not None:
            self.check_partial()
        *_, (_, x) = self.iter_features(video)
        return self.norm_out(rearrange(x, "b c t h w -> b (t h w) c"))

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Map]]:
        """Yield (name, map) of every block. Raises VidgenError for clips that patches do not fill."""
        self.grid_of(video)
        x = self.stem(video.to(self.norm_out.weight.dtype))
        for i, block in enumerate(self.blocks):
            x = block(x)
            yield f"blocks.{i}", x

    def check_partial(self) -> None:
        """Raise VidgenError: a convolution has no place without a token."""
        refuse_partial("encoder.kind resnet", ["vit"])

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The blocks, each by the stage that it is in."""
        rows, reduction = [], (1, 1, 1)
        for width, count, stride in self.config.layout:
            reduction = tuple(n * s for n, s in zip(reduction, stride, strict=True))
            rows += [(width, reduction)] * count
        return [
            FeatureInfo(name=f"blocks.{i}", num_chs=width, reduction=step, module="encoder", causal=False)
            for i, (width, step) in enumerate(rows)
        ]
