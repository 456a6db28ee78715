"""A second stream beside a clip in one transformer: actions, poses or labels, a token a latent frame.

Both streams are denoised together, each frame of each at a noise level of its own (Bao et al. 2023, UniDiffuser,
section 4; Li et al. 2025, UVA): from the levels one network tells p(video, side), p(video | side), p(side | video), and
of each stream alone. A stream at full noise says nothing of the other. So what is absent is not shown as noise, which
a network may misread, but left out of attention: a stream alone is what it is in a network without the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.models.dit.blocks import Block
from vidgen.models.dit.transformer import LEVEL_WAVES, make_level_embedding, start_as_zero
from vidgen.models.layers import gated_sum, modulate, settle, sinusoidal
from vidgen.models.rope import Rotary
from vidgen.models.text.prepared import TextHeads, TextTokens


@dataclass(frozen=True, kw_only=True)
class SideStream:
    """The side stream of a pass: noisy `values` at noise levels `t`, (b,) or (b, t).

    absent: which latent frames of the clip (0) and which of its rows (1) no token sees; None is none of them. What is
    predicted of those is nobody's business.
    """

    values: Float[Tensor, "b t a"]
    t: Float[Tensor, b * f]
    absent: Bool[Tensor, "b two t"] | None = None


@dataclass(frozen=True, kw_only=True)
class SideTokens:
    """The stream as blocks read it: tokens, what modulates them, positions of all tokens, and which of all are seen."""

    x: Float[Tensor, "b t one d"]
    modulation: Float[Tensor, "b f six d"]
    rotary: Rotary
    visible: Bool[Tensor, "b n"] | None


class SideLayers(nn.Module):
    """What a transformer has for a side stream of `channels` numbers a frame: linear in, linear out, a noise level."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.values_in = nn.Linear(channels, width)
        self.level = make_level_embedding(width)
        self.values_out = nn.Linear(width, channels)
        start_as_zero([self.values_out])

    def embed_level(self, t: Float[Tensor, b * f]) -> Float[Tensor, "b f d"]:
        """Return the embedded noise levels, one row a clip for levels (b,), or one a frame for levels (b, t)."""
        angles = sinusoidal(t if t.ndim == 2 else t[:, None], LEVEL_WAVES)
        weight = self.values_in.weight
        return settle(self.level(angles.to(weight.dtype)), weight)

    def embed(
        self,
        side: SideStream,
        modulation: Float[Tensor, "b f six_d"],
        rotary: Rotary,
        positions: Float[Tensor, "t s d"],
    ) -> SideTokens:
        """Return the tokens of a stream, where the first patch of their frame stands, behind all patches.

        Raises ValueError for a stream of another size.
        """
        frames, patches = positions.shape[:2]
        if side.values.shape[1:] != (frames, self.values_in.in_features):
            raise ValueError(
                f"a side stream {tuple(side.values.shape)} is not {frames} frames of {self.values_in.in_features}"
            )
        x = self.values_in(side.values.to(self.values_in.weight.dtype)) + positions[:, 0]
        visible: Tensor | None = None
        if side.absent is not None:
            cells = repeat(~side.absent[:, 0], "b t -> b (t s)", s=patches)
            visible = torch.cat([cells, ~side.absent[:, 1]], dim=1).to(x.device)
        both = Rotary(*(torch.cat([rows, rows[::patches]]) for rows in rotary))
        modulation = rearrange(modulation, "b f (k d) -> b f k d", k=6)
        return SideTokens(x=x[:, :, None], modulation=modulation, rotary=both, visible=visible)

    def predict(
        self, side: SideTokens, norm: nn.LayerNorm, shift: Float[Tensor, "b f one d"], scale: Float[Tensor, "b f one d"]
    ) -> Float[Tensor, "b t a"]:
        """Return the prediction of the stream from its tokens."""
        return self.values_out(modulate(norm, side.x, shift, scale))[:, :, 0]


def run_beside(
    block: Block,
    x: Float[Tensor, "b t s d"],
    modulation: Float[Tensor, "b f six d"],
    text: TextTokens | TextHeads | None,
    side: SideTokens,
) -> tuple[Float[Tensor, "b t s d"], Float[Tensor, "b t one d"]]:
    """Return a block's output of patches and of side tokens, which have all weights in common and one attention."""
    streams, sizes = (x, side.x), (x.shape[2], 1)
    tables = [(cond + block.table)[:, :, :, None].unbind(2) for cond in (modulation, side.modulation)]
    parts = [modulate(block.norm1, z, m[0], m[1]) for z, m in zip(streams, tables, strict=True)]
    y = block.attention(join_tokens(parts), mask=side.visible, rotary=side.rotary)
    streams = [gated_sum(z, part, m[2]) for z, part, m in zip(streams, cut_tokens(y, sizes), tables, strict=True)]
    if text is not None:
        if isinstance(text, TextTokens):
            text = TextHeads(*block.cross.keys_values(text.tokens), text.mask)
        y = block.cross.look_up(block.norm_text(join_tokens(streams)), *text)
        streams = [z + part for z, part in zip(streams, cut_tokens(y, sizes), strict=True)]
    parts = [block.mlp(modulate(block.norm2, z, m[3], m[4])) for z, m in zip(streams, tables, strict=True)]
    x, row = (gated_sum(z, part, m[5]) for z, part, m in zip(streams, parts, tables, strict=True))
    return x, row


def join_tokens(streams: list[Float[Tensor, "b t k d"]]) -> Float[Tensor, "b n d"]:
    """Return the tokens of streams in one sequence, one stream after the other."""
    return torch.cat([rearrange(z, "b t k d -> b (t k) d") for z in streams], dim=1)


def cut_tokens(tokens: Float[Tensor, "b n d"], sizes: tuple[int, ...]) -> list[Float[Tensor, "b t k d"]]:
    """Return the streams of a sequence, with so many tokens a frame each: the inverse of `join_tokens`."""
    frames = tokens.shape[1] // sum(sizes)
    parts = tokens.split([frames * size for size in sizes], dim=1)
    return [rearrange(part, "b (t k) d -> b t k d", t=frames) for part in parts]


def join_streams(x: Float[Tensor, "b c t h w"], side: Float[Tensor, "b t a"]) -> Float[Tensor, "b c two_t h w"]:
    """Return both streams as one clip, which solvers, conditioning and losses take as any other: t more frames, each
    filled by the numbers of a row, over and over. A frame of either has as much weight in a mean so.

    Raises VidgenError for rows that a frame does not hold.
    """
    b, c, t, h, w = x.shape
    cells, channels = c * h * w, side.shape[2]
    if channels > cells:
        raise VidgenError(f"a side stream of {channels} numbers a frame, in latents of {cells}: give it fewer")
    rows = repeat(side, "b t a -> b t (n a)", n=-(-cells // channels))[:, :, :cells]
    return torch.cat([x, rearrange(rows, "b t (c h w) -> b c t h w", c=c, h=h, w=w).to(x)], dim=2)


def split_streams(
    both: Float[Tensor, "b c two_t h w"], channels: int
) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "b t a"]]:
    """Return a clip and its side stream of `channels` numbers a frame: the inverse of `join_streams`."""
    x, rows = both.chunk(2, dim=2)
    return x, rearrange(rows, "b c t h w -> b t (c h w)")[:, :, :channels]


def rows_of_latents(values: Float[Tensor, "b T a"], temporal_ratio: int) -> Float[Tensor, "b t k"]:
    """Return the values of frames as rows of latent frames, k = a * temporal_ratio: the first latent frame is the first
    frame alone, whose values stand last in its row after zeros.

    Raises VidgenError for clips that end within a latent frame.
    """
    if (values.shape[1] - 1) % temporal_ratio:
        raise VidgenError(
            f"a side stream of {values.shape[1]} frames ends within a latent frame, which holds {temporal_ratio} after "
            "the first"
        )
    return rearrange(F.pad(values, (0, 0, temporal_ratio - 1, 0)), "b (t r) a -> b t (r a)", r=temporal_ratio)


def values_of_rows(rows: Float[Tensor, "b t k"], temporal_ratio: int) -> Float[Tensor, "b T a"]:
    """Return the values of frames: the inverse of `rows_of_latents`."""
    return rearrange(rows, "b t (r a) -> b (t r) a", r=temporal_ratio)[:, temporal_ratio - 1 :]
