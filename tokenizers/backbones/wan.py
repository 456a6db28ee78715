"""The networks of Wan's autoencoders (Wan Team 2025, section 4.1): 2.1, and 2.2 with a shortcut around every stage.

A clip's first frame has a latent of its own and no part in the steps of time. What it leaves to later frames lies in
the `Stream` like all else, so clips are cut anywhere, where the published code takes pieces of 1, 4, 4, ... frames.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.models.attention import find_attention
from vidgen.tokenizers.backbones.convolutional import Scale
from vidgen.tokenizers.backbones.convolutions import (
    CausalConv3d,
    PointwiseConv3d,
    ResidualBlock,
    Stream,
    activate_and_mix,
    add,
)
from vidgen.tokenizers.backbones.norms import RMSNorm
from vidgen.tokenizers.backbones.resampling import Downsample, Upsample

KERNEL = (3, 3, 3)


class PictureAttention(nn.Module):
    """Residual attention of one head over all positions of a frame, each frame by itself (Rombach et al. 2022)."""

    branch_end = "out"  # the layer with the branch's last weights

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b c t h w"]:
        """Return `x` plus attention within each frame; nothing is kept in `stream`."""
        b, _, _, h, _ = x.shape
        y = self.to_qkv(rearrange(self.norm(x), "b c t h w -> (b t) (h w) c"))
        y = find_attention("auto")(*rearrange(y, "n l (s c) -> s n 1 l c", s=3))
        y = self.out(rearrange(y, "n 1 l c -> n l c"))
        return x + rearrange(y, "(b t) (h w) c -> b t h w c", b=b, h=h).movedim(-1, 1)


class FoldedMean(nn.Module):
    """A step down without weights: cells of `t` frames and `s` x `s` positions, folded into channels, of which equal
    groups are averaged to `c_out`. Before a clip's first frame come zeros, to fill its cell."""

    def __init__(self, c_in: int, c_out: int, t: int, s: int) -> None:
        super().__init__()
        if c_in * t * s * s % c_out:
            raise VidgenError(
                f"widths {c_in} and {c_out}: a shortcut cannot average cells {t}x{s}x{s} of the first in as many "
                "groups as the second; choose widths that divide each other"
            )
        self.c_out = c_out
        self.t = t
        self.s = s

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d i j k"]:
        """Return the means of folded cells; `stream` says whether the clip starts here."""
        if stream.starts and self.t > 1:
            x = F.pad(x, (0, 0, 0, 0, self.t - 1, 0))
        cells = {"p": self.t, "q": self.s, "r": self.s}
        x = rearrange(x, "b c (t p) (h q) (w r) -> b t h w (c p q r)", **cells)
        return reduce(x, "b t h w (d g) -> b t h w d", "mean", d=self.c_out).movedim(-1, 1)


class UnfoldedRepeat(nn.Module):
    """A step up without weights: every channel repeated, and folded out into cells of `t` frames and `s` x `s`
    positions of `c_out` channels. Of a clip's first cell only the last frame is there."""

    def __init__(self, c_in: int, c_out: int, t: int, s: int) -> None:
        super().__init__()
        if c_out * t * s * s % c_in:
            raise VidgenError(
                f"decoder widths {c_in} and {c_out}: a shortcut cannot fill cells {t}x{s}x{s} of the second with equal "
                "shares of the first; choose widths that divide each other"
            )
        self.t = t
        self.s = s
        self.repeats = c_out * t * s * s // c_in

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d i j k"]:
        """Return the cells folded out; `stream` says whether the clip starts here."""
        cells = {"p": self.t, "q": self.s, "r": self.s}
        x = x.repeat_interleave(self.repeats, dim=1)
        x = rearrange(x, "b (d p q r) t h w -> b (t p) (h q) (w r) d", **cells).movedim(-1, 1)
        return x[:, :, self.t - 1 :] if stream.starts else x


class Stage(nn.Module):
    """Residual blocks, then a change of rates or none; beside them, in Wan 2.2, a shortcut without weights."""

    def __init__(self, blocks: list[nn.Module], step: nn.Module | None, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.step = step
        self.shortcut = shortcut

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d i j k"]:
        """Return `x` through the blocks and the step, plus the shortcut where there is one."""
        y = x
        for block in self.blocks:
            y = block(y, stream)
        if self.step is not None:
            y = self.step(y, stream)
        return y if self.shortcut is None else add(y, self.shortcut(x, stream))


def stage_blocks(c_in: int, c_out: int, count: int) -> list[nn.Module]:
    """Return `count` residual blocks, the first of which changes the width."""
    return [ResidualBlock(c_in if j == 0 else c_out, c_out, "full", RMSNorm) for j in range(count)]


def middle(width: int) -> list[nn.Module]:
    """Return the layers at the lowest resolution."""
    before, after = (ResidualBlock(width, width, "full", RMSNorm) for _ in range(2))
    return [before, PictureAttention(width), after]


class WanOutput(nn.Module):
    """The last step of both: normalization, SiLU and a convolution."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.norm = RMSNorm(c_in)
        self.conv = CausalConv3d(c_in, c_out, KERNEL)

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d t h w"]:
        """Return the convolution of the normalized, activated `x`."""
        return activate_and_mix(self.norm, self.conv, x, stream)


class WanEncoder(nn.Module):
    """Pixels, or patches of them, to the posterior: a stage a width, each but the last with a `Downsample`, then the
    middle. `mix` is a linear map of the posterior's channels. `scales` says of each layer what it gives."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        widths: tuple[int, ...],
        temporal: tuple[bool, ...],
        blocks: int,
        shortcuts: bool,
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(c_in, widths[0], KERNEL)
        layers: list[nn.Module] = []
        self.scales: list[Scale] = []
        scale = Scale(width=widths[0], t=1, s=1)
        for i, width in enumerate(widths):
            last = i + 1 == len(widths)
            t, s = (1, 1) if last else (2 if temporal[i] else 1, 2)
            step = None if last else Downsample(width, temporal[i], lone_first=True)
            shortcut = FoldedMean(scale.width, width, t, s) if shortcuts else None
            layers.append(Stage(stage_blocks(scale.width, width, blocks), step, shortcut))
            scale = Scale(width=width, t=scale.t * t, s=scale.s * s)
            self.scales.append(scale)
        layers += middle(widths[-1])
        self.scales += [scale] * 3
        self.layers = nn.ModuleList(layers)
        self.out = WanOutput(widths[-1], c_out)
        self.mix = PointwiseConv3d(c_out, c_out)

    def iter_features(self, x: Float[Tensor, "b c T H W"], stream: Stream) -> Iterator[tuple[str, Tensor]]:
        """Yield every intermediate with its name, in order; the last one is the output (b, c_out, t, h, w)."""
        x = self.conv_in(x, stream)
        for i, layer in enumerate(self.layers):
            x = layer(x, stream)
            yield f"encoder.layers.{i}", x
        yield "encoder.out", self.mix(self.out(x, stream))

    def forward(self, x: Float[Tensor, "b c T H W"], stream: Stream) -> Float[Tensor, "b d t h w"]:
        """Return the posterior's channels for pixels or patches."""
        for _, out in self.iter_features(x, stream):  # noqa: B007 (the last one is the output)
            pass
        return out


class WanDecoder(nn.Module):
    """Latents to pixels: `mix`, the middle, the stages in reverse, each but the last with an `Upsample`.

    Without shortcuts an `Upsample` also halves the width. Pixels are clamped to [-1, 1], but not in training, where
    those outside would have no gradient.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        widths: tuple[int, ...],
        temporal: tuple[bool, ...],
        blocks: int,
        shortcuts: bool,
    ) -> None:
        super().__init__()
        self.mix = PointwiseConv3d(c_in, c_in)
        self.conv_in = CausalConv3d(c_in, widths[-1], KERNEL)
        layers = middle(widths[-1])
        before = widths[-1]
        for i in reversed(range(len(widths))):
            width = widths[i]
            step = None
            shortcut = None
            after = width
            if i > 0:
                after = width if shortcuts else width // 2
                step = Upsample(width, after, temporal[i - 1], lone_first=True)
                if shortcuts:
                    shortcut = UnfoldedRepeat(before, width, 2 if temporal[i - 1] else 1, 2)
            layers.append(Stage(stage_blocks(before, width, blocks), step, shortcut))
            before = after
        self.layers = nn.ModuleList(layers)
        self.out = WanOutput(widths[0], c_out)

    def forward(self, z: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d T H W"]:
        """Return the pixels or patches of latents."""
        z = self.conv_in(self.mix(z), stream)
        for layer in self.layers:
            z = layer(z, stream)
        x = self.out(z, stream)
        return x if self.training else x.clamp(-1.0, 1.0)
