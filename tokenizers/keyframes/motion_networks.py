"""Networks of the motion: fields to the bottleneck and back, and frames from a key frame and decoded motion."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.warping import warp
from vidgen.tokenizers.backbones.convolutional import Output
from vidgen.tokenizers.backbones.convolutions import CausalConv3d, ResidualBlock, Stream, initialize, name_layers
from vidgen.tokenizers.keyframes.config import PATCH

FIELD_UNIT = 4.0  # pixels: fields go into and come out of networks in units of it, about the size of usual motion


class MotionEncoder(nn.Module):
    """A field to the bottleneck's input, causal in time within its group."""

    def __init__(self, channels_out: int, width: int, blocks: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv3d(2, width, 1)
        self.layers = nn.ModuleList([ResidualBlock(width, width, "factorised") for _ in range(blocks)])
        self.out = Output(width, channels_out)
        initialize(self)
        name_layers(self)

    def forward(self, field: Float[Tensor, "n 2 k i j"]) -> Float[Tensor, "n d k i j"]:
        """Return the bottleneck's input for a field in pixels."""
        stream = Stream()
        x = self.conv_in(field / FIELD_UNIT)  # n width k i j
        for layer in self.layers:
            x = layer(x, stream)
        return self.out(x, stream)


class MotionDecoder(nn.Module):
    """Motion latents to a field in pixels and to features, causal in time within its group."""

    def __init__(self, channels_in: int, width: int, blocks: int) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(channels_in, width, (3, 3, 3))
        self.layers = nn.ModuleList([ResidualBlock(width, width, "factorised") for _ in range(blocks)])
        self.out = Output(width, 2)
        initialize(self)
        with torch.no_grad():  # the first fields hardly move anything
            for layer in (self.out.skip, self.out.conv):
                layer.weight.mul_(0.1)
        name_layers(self)

    def forward(self, z: Float[Tensor, "n d k i j"]) -> tuple[Float[Tensor, "n 2 k i j"], Float[Tensor, "n f k i j"]]:
        """Return the field in pixels, and features."""
        stream = Stream()
        x = self.conv_in(z, stream)  # n f k i j
        for layer in self.layers:
            x = layer(x, stream)
        return self.out(x, stream) * FIELD_UNIT, x


class FrameSynthesizer(nn.Module):
    """Frames from a key frame: it is moved by the decoded field, refined where the key frame shows edges, and what
    motion cannot make is added. Both additions start at zero: a fresh network only moves the key frame.

    Works on patches of 4 pixels and causally in time within its group.
    """

    def __init__(self, features: int, width: int, blocks: int) -> None:
        super().__init__()
        colours = 3 * PATCH**2
        self.flow_in = nn.Conv3d(colours + features + 2, width, 1)
        self.flow_layers = nn.ModuleList([ResidualBlock(width, width, "factorised") for _ in range(blocks)])
        self.flow_out = nn.Conv3d(width, 2, 1)
        self.frame_in = nn.Conv3d(colours + width, width, 1)
        self.frame_layers = nn.ModuleList([ResidualBlock(width, width, "factorised") for _ in range(blocks)])
        self.frame_out = nn.Conv3d(width, colours, 1)
        initialize(self)
        for layer in (self.flow_out, self.frame_out):
            nn.init.zeros_(layer.weight)
        name_layers(self)

    def forward(
        self, key: Float[Tensor, "n 3 h w"], field: Float[Tensor, "n 2 k i j"], features: Float[Tensor, "n f k i j"]
    ) -> tuple[Float[Tensor, "n 3 k h w"], Float[Tensor, "n 3 k h w"]]:
        """Return frames, and the moved key frame before anything was added; h and w are whole blocks of the field."""
        stream = Stream()
        k = field.shape[2]
        wide = torch.promote_types(key.dtype, torch.float32)
        scale = key.shape[2] // field.shape[3]
        base = enlarge(field.to(wide), scale // PATCH, "bilinear")  # n 2 k h/4 w/4
        patches = rearrange(key, "n c (i p) (j q) -> n (c p q) 1 i j", p=PATCH, q=PATCH)
        enlarged = enlarge(features, scale // PATCH, "nearest")
        x = torch.cat([patches.expand(-1, -1, k, -1, -1), enlarged, base.to(key.dtype) / FIELD_UNIT], dim=1)
        x = self.flow_in(x)  # n width k h/4 w/4
        for layer in self.flow_layers:
            x = layer(x, stream)
        flow = base + self.flow_out(x).to(wide) * FIELD_UNIT
        warped = warp(key, enlarge(flow, PATCH, "bilinear"))
        patches = rearrange(warped, "n c k (i p) (j q) -> n (c p q) k i j", p=PATCH, q=PATCH)
        x = self.frame_in(torch.cat([patches, x.to(patches.dtype)], dim=1))
        for layer in self.frame_layers:
            x = layer(x, stream)
        residual = rearrange(self.frame_out(x), "n (c p q) k i j -> n c k (i p) (j q)", p=PATCH, q=PATCH)
        return warped + residual.to(warped.dtype), warped


def enlarge(x: Float[Tensor, "n c k i j"], scale: int, mode: str) -> Float[Tensor, "n c k h w"]:
    """Return `x` with height and width times `scale`, frame by frame."""
    if scale == 1:
        return x
    frames = F.interpolate(rearrange(x, "n c k i j -> (n k) c i j"), scale_factor=float(scale), mode=mode)
    return rearrange(frames, "(n k) c h w -> n c k h w", n=x.shape[0])
