"""The causal encoder and decoder: a fixed patch or Haar front end, stages of blocks, one rate change a stage.

The blocks are convolutional or of a transformer; all else is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.tokenizers.backbones.attention import FrameAttention
from vidgen.tokenizers.backbones.convolutions import CausalConv3d, ChannelNorm, PointwiseConv3d, Stream
from vidgen.tokenizers.backbones.resampling import Downsample, Upsample

# Tables are worked out here even for a model that is made on `meta`, to be loaded: arithmetic there would import all of
# torch's compiler, a second and 140 MiB.
TABLES = "cpu"
FRONT_ENDS = ("patch", "haar")
# A block of these channels in and out; the last argument is its index among all blocks of its network.
MakeBlock = Callable[[int, int, int], nn.Module]


def haar_matrix(n: int) -> Float[Tensor, "n n"]:
    """Return the orthonormal Haar packet of `n` = 2^k samples: every row has entries +-n^-1/2.

    Haar 1910, in Walsh order 2^k. Raises ValueError for another `n`.
    """
    if n < 1 or n & (n - 1):
        raise ValueError(f"a Haar front end needs patch sizes that are powers of two, not {n}")
    exact = {"dtype": torch.float64, "device": TABLES}
    step = torch.tensor([[1.0, 1.0], [1.0, -1.0]], **exact) / 2**0.5
    return reduce(torch.kron, [step] * (n.bit_length() - 1), torch.ones(1, 1, **exact))


class FrontEnd(nn.Module):
    """Space-time patches to channels and back, exactly: `patch` as they are, `haar` in an orthonormal wavelet basis.

    Both are orthogonal, so `inverse(forward(x)) == x`, and a loss in one space is a loss in the other.
    """

    basis: Tensor

    def __init__(self, kind: str, patch_t: int, patch: int) -> None:
        super().__init__()
        if kind not in FRONT_ENDS:
            raise ValueError(f"front end {kind!r} is not one of {', '.join(FRONT_ENDS)}")
        self.patch_t = patch_t
        self.patch = patch
        self.kind = kind
        size = patch_t * patch * patch
        if kind == "haar":
            time, space = haar_matrix(patch_t), haar_matrix(patch)
            self.register_buffer("basis", torch.kron(time, torch.kron(space, space)))
        else:
            self.register_buffer("basis", torch.eye(size, dtype=torch.float64, device=TABLES))

    def forward(self, x: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b d t h w"]:
        """Return a clip's patches as channels, in the basis of the front end."""
        axes = {"p": self.patch_t, "q": self.patch, "r": self.patch}
        x = rearrange(x, "b c (t p) (h q) (w r) -> b t h w c (p q r)", **axes)
        if self.kind == "haar":
            x = F.linear(x, self.basis.to(x.dtype))
        return rearrange(x, "b t h w c k -> b (c k) t h w")

    def inverse(self, x: Float[Tensor, "b d t h w"]) -> Float[Tensor, "b c T H W"]:
        """Return the clip of such patches: the inverse of `forward`."""
        axes = {"p": self.patch_t, "q": self.patch, "r": self.patch}
        x = rearrange(x, "b (c k) t h w -> b t h w c k", k=self.basis.shape[0])
        if self.kind == "haar":
            x = F.linear(x, self.basis.T.to(x.dtype))
        return rearrange(x, "b t h w c (p q r) -> b c (t p) (h q) (w r)", **axes)


class Output(nn.Module):
    """The last step of both: a 1x1x1 projection of the stream plus a normalized 1x3x3 convolution.

    The projection keeps what normalization removes, absolute level above all, so a linear path runs from pixels to
    latents and back, and is learned first.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.skip = PointwiseConv3d(c_in, c_out)
        self.norm = ChannelNorm(c_in)
        self.conv = CausalConv3d(c_in, c_out, (1, 3, 3))

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d t h w"]:
        """Return the projection of `x` plus the convolution of its normalized self."""
        return self.skip(x) + self.conv(F.silu(self.norm(x)), stream)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Of what a layer gives: its channels, and how many positions of the network's input one of its own stands for,
    `t` in time and `s` on each axis of space."""

    width: int
    t: int
    s: int


class Encoder(nn.Module):
    """Patches to the bottleneck's input: stages of `blocks` blocks, each but the last followed by a `Downsample`.

    `widths[i]` is the width of stage i, `temporal[i]` whether the step after stage i also halves time. With
    `attention`, each frame attends to itself after the last stage. `scales` says of each layer what it gives.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        widths: tuple[int, ...],
        temporal: tuple[bool, ...],
        blocks: int,
        make_block: MakeBlock,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.conv_in = PointwiseConv3d(c_in, widths[0])
        layers: list[nn.Module] = []
        self.scales: list[Scale] = []
        t = s = 1
        for i, width in enumerate(widths):
            before = widths[max(i - 1, 0)]
            layers += [make_block(before if j == 0 else width, width, i * blocks + j) for j in range(blocks)]
            self.scales += [Scale(width=width, t=t, s=s)] * blocks
            if i + 1 < len(widths):
                layers.append(Downsample(width, temporal[i]))
                t, s = t * (2 if temporal[i] else 1), 2 * s
                self.scales.append(Scale(width=width, t=t, s=s))
        if attention:
            layers.append(FrameAttention(widths[-1]))
            self.scales.append(self.scales[-1])
        self.layers = nn.ModuleList(layers)
        self.out = Output(widths[-1], c_out)

    def iter_features(self, x: Float[Tensor, "b c T H W"], stream: Stream) -> Iterator[tuple[str, Tensor]]:
        """Yield every intermediate with its name, in order; the last one is the output (b, c_out, t, h, w)."""
        x = self.conv_in(x)
        for i, layer in enumerate(self.layers):
            x = layer(x, stream)
            yield f"encoder.layers.{i}", x
        yield "encoder.out", self.out(x, stream)

    def forward(self, x: Float[Tensor, "b c T H W"], stream: Stream) -> Float[Tensor, "b d t h w"]:
        """Return the bottleneck's input for patches."""
        for _, out in self.iter_features(x, stream):  # noqa: B007 (the last one is the output)
            pass
        return out


class Decoder(nn.Module):
    """Latents to patches: the encoder's stages in reverse, each but the last followed by an `Upsample`."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        widths: tuple[int, ...],
        temporal: tuple[bool, ...],
        blocks: int,
        make_block: MakeBlock,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(c_in, widths[-1], (3, 3, 3))
        layers: list[nn.Module] = [FrameAttention(widths[-1])] if attention else []
        for i in reversed(range(len(widths))):
            before = (len(widths) - 1 - i) * blocks
            layers += [make_block(widths[i], widths[i], before + j) for j in range(blocks)]
            if i > 0:
                layers.append(Upsample(widths[i], widths[i - 1], temporal[i - 1]))
        self.layers = nn.ModuleList(layers)
        self.out = Output(widths[0], c_out)

    def forward(self, z: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d T H W"]:
        """Return the patches of latents."""
        z = self.conv_in(z, stream)
        for layer in self.layers:
            z = layer(z, stream)
        return self.out(z, stream)
