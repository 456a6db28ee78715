"""Changes of rate: frames halved and doubled in height and width, and in time where a stage says so."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.tokenizers.backbones.convolutions import CausalConv3d, Stream, convolve_frames
from vidgen.tokenizers.backbones.norms import needs_gradient

# Of rows that are repeated once each, a kernel's three taps see two: (which of the repeats, row seen, taps on it).
TAPS_ON_ROWS = (((1.0, 0.0, 0.0), (0.0, 1.0, 1.0)), ((1.0, 1.0, 0.0), (0.0, 0.0, 1.0)))


def double_and_convolve(x: Float[Tensor, "b c t h w"], layer: nn.Conv3d) -> Float[Tensor, "b d t i j"]:
    """Return height and width doubled by repetition, then the 1x3x3 `layer`, without making the large frames.

    Each of the four pixels that come of one has a 2x2 kernel over the small frames, its taps the sums of those of
    `layer` that fall on the same pixel (sub-pixel convolution, Shi et al. 2016, section 3.2): 2.25 times fewer
    multiplications. Sums are taken in float32 at least. Equal within rounding to the plain way, which gradients take.
    """
    if needs_gradient(x, layer.weight):
        return convolve_frames(F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="nearest"), layer)
    b, _, t, h, w = x.shape
    kernel = layer.weight[:, :, 0]
    taps = torch.tensor(TAPS_ON_ROWS, device=x.device, dtype=torch.promote_types(kernel.dtype, torch.float32))
    kernels = einsum(taps, taps, kernel.to(taps.dtype), "p i y, q j x, d c y x -> p q d c i j").to(kernel.dtype)
    bias = None if layer.bias is None else layer.bias.repeat(4)
    frames = rearrange(x, "b c t h w -> (b t) c h w")
    fours = F.conv2d(frames, rearrange(kernels, "p q d c i j -> (p q d) c i j"), bias, padding=1)
    fours = rearrange(fours, "(b t) (p q d) i j -> p q b d t i j", b=b, p=2, q=2)
    shape = (b, fours.shape[3], t, 2 * h, 2 * w)
    y = torch.empty(shape, dtype=fours.dtype, device=x.device, memory_format=torch.channels_last_3d)
    for p in range(2):
        for q in range(2):
            y[..., p::2, q::2] = fours[p, q, ..., p : p + h, q : q + w]
    return y


class HalveTime(nn.Module):
    """Every second frame, each of the three that end with it; but a clip's first frame stays as it is."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(c, c, (3, 1, 1), stride_t=2)

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b c s h w"]:
        """Return half as many frames, and leave the last of these in `stream`."""
        if not stream.starts:
            return self.conv(x, stream)
        first, rest = x[:, :, :1], x[:, :, 1:]
        stream.next[self.conv.key] = first.detach().clone()
        if rest.shape[2] == 0:
            return first
        behind = Stream(past={self.conv.key: first}, next=stream.next)
        return torch.cat([first, self.conv(rest, behind)], dim=2)


class DoubleTime(nn.Module):
    """Two frames for each, of it and the two before; but a clip's first frame stays as it is, and no other sees it."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = CausalConv3d(c, 2 * c, (3, 1, 1))

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b c s h w"]:
        """Return twice as many frames, and leave the last of these in `stream`."""
        if not stream.starts:
            return self._double(x, stream)
        first, rest = x[:, :, :1], x[:, :, 1:]
        # The convolution leaves nothing behind of the first frame: where it has seen none, it starts from zeros.
        return torch.cat([first, self._double(rest, stream)], dim=2) if rest.shape[2] else first

    def _double(self, x: Tensor, stream: Stream) -> Tensor:
        # By way of channels that come last, which is how they lie in memory.
        return rearrange(self.conv(x, stream), "b (s c) t h w -> b (t s) h w c", s=2).movedim(-1, 1)


class Downsample(nn.Module):
    """Halves height and width (strided 1x3x3 convolution), and time where `temporal` (causal, stride 2).

    With `lone_first`, a clip's first frame has no part in time's steps: see `HalveTime`.
    """

    def __init__(self, c: int, temporal: bool, lone_first: bool = False) -> None:
        super().__init__()
        self.space = nn.Conv3d(c, c, (1, 3, 3), stride=(1, 2, 2))
        halve = HalveTime(c) if lone_first else CausalConv3d(c, c, (3, 1, 1), stride_t=2)
        self.time = halve if temporal else None

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b c s i j"]:
        """Return `x` at half the height and width, and in half the frames where time is halved."""
        x = convolve_frames(F.pad(x, (0, 1, 0, 1)), self.space)
        return x if self.time is None else self.time(x, stream)


class Upsample(nn.Module):
    """Doubles height and width (nearest, then a convolution), and time where `temporal` (nearest, then causal).

    With `lone_first`, the convolution itself gives two frames, and a clip's first frame has no part: see `DoubleTime`.
    """

    def __init__(self, c_in: int, c_out: int, temporal: bool, lone_first: bool = False) -> None:
        super().__init__()
        double = DoubleTime(c_in) if lone_first else CausalConv3d(c_in, c_in, (3, 1, 1))
        self.time = double if temporal else None
        self.space = nn.Conv3d(c_in, c_out, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d s i j"]:
        """Return `x` at twice the height and width, and in twice the frames where time is doubled."""
        if self.time is not None:
            x = self.time(x if isinstance(self.time, DoubleTime) else x.repeat_interleave(2, dim=2), stream)
        return double_and_convolve(x, self.space)
