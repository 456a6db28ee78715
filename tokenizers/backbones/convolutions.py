"""Causal convolutions whose memory is data: the frames a kernel still needs travel in a `Stream`, not on the module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.tokenizers.backbones.norms import RMSNorm, needs_gradient

CONVOLUTIONS = ("full", "factorised")  # kinds of `CausalMix`


@dataclass(kw_only=True)
class Stream:
    """One pass over one chunk: what the last chunk left behind, and what this one leaves for the next.

    `past` maps a layer's key to its context frames (empty at the start of a clip) and is only read;
    `next` is filled during the pass. Nothing is kept on modules, so passes are re-entrant and picklable.
    """

    past: dict[str, Tensor] = field(default_factory=dict)
    next: dict[str, Tensor] = field(default_factory=dict)

    @property
    def starts(self) -> bool:
        """Whether this is a clip's first chunk."""
        return not self.past


class CausalConv3d(nn.Conv3d):
    """3-D convolution that sees the present and the past only: `k_t - 1` frames of context before each chunk.

    A clip starts from zeros, so one frame alone costs what the last temporal tap costs in a 2-D network.
    Height and width are zero-padded to keep their size. With `stride_t` > 1, chunks hold whole strides and each
    output frame is aligned with the last input frame of its stride.
    """

    def __init__(self, c_in: int, c_out: int, kernel: tuple[int, int, int], *, stride_t: int = 1) -> None:
        k_t, k_h, k_w = kernel
        if k_t < stride_t or k_h % 2 == 0 or k_w % 2 == 0:
            raise ValueError(f"kernel {kernel} needs odd height and width and at least stride_t={stride_t} frames")
        super().__init__(c_in, c_out, kernel, stride=(stride_t, 1, 1), padding=(0, k_h // 2, k_w // 2))
        self.context = k_t - stride_t
        self.key = ""  # the layer's name in a Stream, set once by `name_layers`

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d s h w"]:
        """Return the convolution of these frames behind those that `stream` remembers."""
        if self.context == 0:
            return self._convolve(x)
        past = stream.past.get(self.key)
        if past is None:
            whole = F.pad(x, (0, 0, 0, 0, self.context, 0))
        else:
            whole = torch.cat([past.to(x.dtype), x], dim=2)
        return self._remember(whole, stream)

    def fill(self, whole: Float[Tensor, "b c m h w"], stream: Stream) -> Float[Tensor, "b d s h w"]:
        """Return what `forward` returns, of frames behind `context` frames of room, which are filled in.

        So nothing is copied but those.
        """
        if self.context == 0:
            return self._convolve(whole)
        room = whole[:, :, : self.context]
        past = stream.past.get(self.key)
        room.zero_() if past is None else room.copy_(past)
        return self._remember(whole, stream)

    def _remember(self, whole: Tensor, stream: Stream) -> Tensor:
        # A clone, since a view would keep the whole chunk alive for as long as the state is.
        stream.next[self.key] = whole[:, :, -self.context :].detach().clone()
        frames = whole[:, :, self.context :]
        if self.key not in stream.past and self.stride[0] == frames.shape[2] == 1:  # behind zeros only
            return convolve_frames(frames, self, tap=self.context)
        return self._convolve(whole)

    def _convolve(self, x: Tensor) -> Tensor:
        if self.kernel_size[0] == 1:
            return convolve_frames(x, self)
        y = super().forward(x)
        # oneDNN and cuDNN give channels last where frames or weights have them so. PyTorch's own 3-D convolution, which
        # a CPU runs where oneDNN has none (bfloat16 without AVX-512, float64, tiny inputs), gives channels first, and
        # all layers behind it would read across memory. On `meta`, where tensors are only counted, `y` stays as it is.
        channels_last = 1 in (x.stride(1), self.weight.stride(1)) and not x.is_meta
        return y.contiguous(memory_format=torch.channels_last_3d) if channels_last else y


class PointwiseConv3d(nn.Conv3d):
    """A 1x1x1 convolution: one linear map of the channels of every position."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 1)

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t h w"]:
        """Return the mapped channels, in the memory layout of `x`."""
        return convolve_frames(x, self)


def convolve_frames(x: Float[Tensor, "b c t h w"], layer: nn.Conv3d, tap: int = 0) -> Float[Tensor, "b d t i j"]:
    """Return each frame by itself through the kernel of `layer` at `tap` in time: 2-D convolutions are faster."""
    frames = rearrange(x, "b c t h w -> (b t) c h w")
    y = F.conv2d(frames, layer.weight[:, :, tap], layer.bias, layer.stride[1:], layer.padding[1:])
    return rearrange(y, "(b t) c h w -> b c t h w", b=len(x))


def initialize(module: nn.Module) -> None:
    """Initialize weights so that signals keep their variance: normal of variance 1 / fan-in, biases zero.

    Residual branches start at a tenth.

    Signals then cross a fresh network at their own size (torch's default shrinks them threefold a layer), and the
    network starts nearly linear.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d | nn.Linear):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        for layer in module.modules():
            if hasattr(layer, "branch_end"):  # the name of a residual layer's last weights
                layer.get_submodule(layer.branch_end).weight.mul_(0.1)


def name_layers(module: nn.Module) -> None:
    """Gives every layer below `module` that keeps something in a `Stream` its key: its name in the module tree."""
    for name, layer in module.named_modules():
        if hasattr(layer, "key"):
            layer.key = name


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each position: time is never mixed, so streaming stays exact."""

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return `x` normalized over its channels."""
        # In channels_last_3d memory both moves are views and the normalized axis is contiguous.
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class CausalMix(nn.Module):
    """A 3x3x3 causal convolution, `full` or `factorised` into 1x3x3 and 3x1x1 (2.25 times fewer operations)."""

    def __init__(self, c_in: int, c_out: int, kind: str) -> None:
        super().__init__()
        if kind not in CONVOLUTIONS:
            raise ValueError(f"convolution kind {kind!r} is not one of {', '.join(CONVOLUTIONS)}")
        if kind == "full":
            self.layers = nn.ModuleList([CausalConv3d(c_in, c_out, (3, 3, 3))])
        else:
            self.layers = nn.ModuleList([CausalConv3d(c_in, c_out, (1, 3, 3)), CausalConv3d(c_out, c_out, (3, 1, 1))])

    @property
    def context(self) -> int:
        """Frames of the past that the first layer needs."""
        return self.layers[0].context

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d t h w"]:
        """Return `x` through all layers."""
        for layer in self.layers:
            x = layer(x, stream)
        return x

    def fill(self, whole: Float[Tensor, "b c m h w"], stream: Stream) -> Float[Tensor, "b d t h w"]:
        """Return what `forward` returns, without copying the frames: see `CausalConv3d.fill`."""
        x = self.layers[0].fill(whole, stream)
        for layer in self.layers[1:]:
            x = layer(x, stream)
        return x


def activate_and_mix(
    norm: nn.Module, mix: CausalConv3d | CausalMix, x: Float[Tensor, "b c t h w"], stream: Stream
) -> Float[Tensor, "b d t h w"]:
    """Return norm, SiLU and convolution of `x`.

    Without a gradient, root mean square norms write straight to where the convolution reads.
    """
    if isinstance(norm, RMSNorm) and not needs_gradient(x, norm.weight):
        return mix.fill(norm.activate(x, room=mix.context), stream)
    return mix(F.silu(norm(x)), stream)


def add(y: Float[Tensor, "b c t h w"], x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
    """Return x + y, in the memory of `y`, which nobody else has, where that can be."""
    return y.add_(x) if x.dtype == y.dtype and not needs_gradient(x, y) else x + y


class ResidualBlock(nn.Module):
    """Pre-activation residual block: norm, SiLU, causal mix, twice; a 1x1x1 projection where the width changes."""

    def __init__(self, c_in: int, c_out: int, kind: str, norm: Callable[[int], nn.Module] = ChannelNorm) -> None:
        super().__init__()
        self.norm1, self.mix1 = norm(c_in), CausalMix(c_in, c_out, kind)
        self.norm2, self.mix2 = norm(c_out), CausalMix(c_out, c_out, kind)
        self.skip = PointwiseConv3d(c_in, c_out) if c_in != c_out else nn.Identity()
        self.branch_end = f"mix2.layers.{len(self.mix2.layers) - 1}"

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d t h w"]:
        """Return `x`, projected where the width changes, plus the two convolutions."""
        y = activate_and_mix(self.norm1, self.mix1, x, stream)
        y = activate_and_mix(self.norm2, self.mix2, y, stream)
        return add(y, self.skip(x))
