"""HNeRV (Chen et al. 2023): an encoder that makes a tiny embedding of each frame, and a decoder that is the clip."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.bounds import Length, Range, Side, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.errors import VidgenError
from vidgen.tokenizers.encoded import latent_size

SMALLEST_SIDE = 4  # pixels
ENCODER_WIDTH = 64
EMBEDDING_SIDE = 2  # cells that the shorter side of an embedding has at least


@dataclass(frozen=True, kw_only=True)
class NeRVConfig(ConfigMapping):
    """A decoder for frames of `height` x `width`: `width_first` channels, divided by `reduction` (the paper's 1.2, for
    an even spread of weights) at each of `strides`, and `width_least` at the least, or `width_first` where that is
    less; kernels grow from `kernel_first` by 2 a stage to `kernel_last`.
    """

    height: Side
    width: Side
    strides: Annotated[tuple[Annotated[int, Range(1, 64)], ...], Length(0, 8)]
    embedding: Width = 16
    width_first: Width = 32
    width_least: Width = 8
    reduction: Annotated[float, Range(1.0, 1e3)] = 1.2
    kernel_first: Annotated[int, Range(1, 63)] = 1
    kernel_last: Annotated[int, Range(1, 63)] = 5

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("kernel_first", "kernel_last"):
            if getattr(self, name) % 2 == 0:
                raise VidgenError(f"{name}={getattr(self, name)} is even; a kernel has a cell in its middle")

    @property
    def spatial_compression_ratio(self) -> int:
        """Pixels on each axis that one cell of an embedding stands for."""
        return prod(self.strides)

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of an embedding; what sticks out of the frame below and on the right is cut off."""
        return latent_size(self.height, self.width, self.spatial_compression_ratio)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before the first stage and after each."""
        falling = (round(self.width_first / self.reduction**k) for k in range(len(self.strides) + 1))
        return tuple(max(min(self.width_least, self.width_first), n) for n in falling)

    @property
    def kernels(self) -> tuple[int, ...]:
        """K_i = min(K_first + 2 i, K_last)."""
        return tuple(min(self.kernel_first + 2 * k, self.kernel_last) for k in range(len(self.strides)))


def choose_strides(height: int, width: int) -> tuple[int, ...]:
    """Return fours, then two or three twos, down to an embedding whose shorter side has two cells or three.

    Few pixels take the large steps, where the paper has them too. Raises VidgenError for frames under 4 pixels.
    """
    side = min(height, width)
    if side < SMALLEST_SIDE:
        raise VidgenError(f"frames of {height}x{width} are too small to fit: {SMALLEST_SIDE} pixels a side or more")
    halvings = (side // EMBEDDING_SIDE).bit_length() - 1
    fours = max(0, (halvings - 2) // 2)
    return (4,) * fours + (2,) * (halvings - 2 * fours)


class UpStage(nn.Module):
    """A convolution to s^2 times the channels, pixel shuffle, GELU (HNeRV's block)."""

    def __init__(self, c_in: int, c_out: int, stride: int, kernel: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(c_in, c_out * stride**2, kernel, padding=kernel // 2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d H W"]:
        """Return frames of features, larger by the stride."""
        return F.gelu(F.pixel_shuffle(self.conv(x), self.stride))


class NeRVDecoder(nn.Module):
    """Embeddings to frames in [-1, 1] but for overshoot, which the caller clamps: the paper's tanh cannot reach black.

    All that is stored of a clip is this network and its embeddings.
    """

    def __init__(self, config: NeRVConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stem = nn.Conv2d(config.embedding, widths[0], 1)
        stages = zip(widths, widths[1:], config.strides, config.kernels, strict=False)
        self.stages = nn.ModuleList([UpStage(*stage) for stage in stages])
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, embeddings: Float[Tensor, "b e i j"]) -> Float[Tensor, "b 3 h w"]:
        """Return the frames of embeddings, cropped."""
        x = F.gelu(self.stem(embeddings))
        for stage in self.stages:
            x = stage(x)
        return self.head(x)[..., : self.config.height, : self.config.width]


class ConvNeXtBlock(nn.Module):
    """7x7 convolution of each channel, norm, a wide layer of each position, added to the input (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return `x` plus the branch."""
        y = self.norm(rearrange(self.mix(x), "b c h w -> b h w c"))
        return x + rearrange(self.narrow(F.gelu(self.wide(y))), "b h w c -> b c h w")


class NeRVEncoder(nn.Module):
    """Frames to embeddings, by the decoder's strides; only fitting needs it, and no file holds it."""

    def __init__(self, config: NeRVConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for k, stride in enumerate(config.strides):
            layers.append(nn.Conv2d(3 if k == 0 else ENCODER_WIDTH, ENCODER_WIDTH, stride, stride=stride))
            layers.append(ConvNeXtBlock(ENCODER_WIDTH))
        self.layers = nn.Sequential(*layers)
        self.out = nn.Conv2d(ENCODER_WIDTH, config.embedding, 1)

    def forward(self, frames: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e i j"]:
        """Return the embeddings of frames, whose edges are repeated to fill the grid."""
        rows, cols = self.config.grid
        ratio = self.config.spatial_compression_ratio
        below, right = rows * ratio - frames.shape[2], cols * ratio - frames.shape[3]
        return self.out(self.layers(F.pad(frames, (0, right, 0, below), mode="replicate")))


def initialize(*networks: nn.Module) -> None:
    """Initialize weights to keep the size of a signal through GELU (He et al. 2015), and biases to zero.

    A first frame is nearly gray.
    """
    layers = [layer for network in networks for layer in network.modules()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    lasts = [layer.narrow for layer in layers if isinstance(layer, ConvNeXtBlock)]
    lasts += [layer.head for layer in layers if isinstance(layer, NeRVDecoder)]
    with torch.no_grad():
        for last in lasts:
            last.weight.mul_(0.1)
