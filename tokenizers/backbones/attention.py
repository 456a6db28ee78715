"""Attention for tokenizers: over a frame, within windows of a frame, and over a bounded past whose keys are data.

None of it sees a later frame, and what a chunk leaves to the next travels in a `Stream`. So all of it streams exactly.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention import find_attention
from vidgen.models.attention_patterns import over_windows
from vidgen.models.layers import Attention
from vidgen.models.rope import WAVELENGTHS, apply_rotary_angles
from vidgen.tokenizers.backbones.convolutions import Stream

QUERY_FRAMES = 32  # frames of queries at once: the scores of a long chunk are never held together


def rotary_angles(positions: Float[Tensor, " n"], pairs: int) -> Float[Tensor, "n p"]:
    """Return angles of positions on one axis, `pairs` wavelengths spaced geometrically over `WAVELENGTHS`.

    Rotary position embedding of Su et al. 2021.

    In float64: only then do angles of other positions with the same differences give the same result.
    """
    shortest, longest = WAVELENGTHS
    spacing = torch.arange(pairs, dtype=torch.float64, device=positions.device) / max(pairs - 1, 1)
    return positions[:, None].double() * (2.0 * math.pi / shortest * (shortest / longest) ** spacing)


class FrameAttention(nn.Module):
    """Residual attention of one head over all positions of a frame, each frame by itself.

    As in the middle of image autoencoders (Rombach et al. 2022, appendix E.1), with normalized queries and keys.
    Positions are known from the convolutions around it.
    """

    branch_end = "attention.out"  # the layer with the branch's last weights

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, width)

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b c t h w"]:
        """Return `x` plus attention within each frame; nothing is kept in `stream`."""
        b, _, _, h, _ = x.shape
        y = self.attention(self.norm(rearrange(x, "b c t h w -> (b t) (h w) c")))
        return x + rearrange(y, "(b t) (h w) c -> b c t h w", b=b, h=h)


class WindowAttention(nn.Module):
    """Residual attention within windows of `window` x `window` positions of a frame, with rotary positions.

    `shifted` moves the borders by half a window (Liu et al. 2021, Swin, section 3.2). Blocks alternate: with borders
    that stay in place, nothing would cross them, and they would show.
    """

    branch_end = "attention.out"  # the layer with the branch's last weights

    def __init__(self, width: int, head_dim: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.window = window
        self.offset = window // 2 if shifted else 0
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, head_dim)

    def forward(self, x: Float[Tensor, "b t h w d"]) -> Float[Tensor, "b t h w d"]:
        """Return `x` plus attention within each window."""
        b, _, h, w, _ = x.shape
        q, k, v = self.attention.project(rearrange(self.norm(x), "b t h w d -> (b t) (h w) d"))
        angles = self._angles(h, w, x.device)
        q, k = apply_rotary_angles(q, angles), apply_rotary_angles(k, angles)
        cut = {"grid": (1, h, w), "window": (1, self.window, self.window), "offset": (0, self.offset, self.offset)}
        y = self.attention.join(over_windows(find_attention(self.attention.backend), q, k, v, **cut))
        return x + rearrange(y, "(b t) (h w) d -> b t h w d", b=b, h=h)

    def _angles(self, h: int, w: int, device: torch.device) -> Float[Tensor, "hw p"]:
        """Return rotary angles: half of the pairs turn with the row, half with the column.

        They are counted from the window's border, not the frame's, which is the same to rounding and keeps tiles of a
        frame equal to it.
        """
        pairs = self.attention.head_dim // 4
        rows, cols = (
            rotary_angles((torch.arange(n, device=device) - self.offset) % self.window, pairs) for n in (h, w)
        )
        angles = torch.cat([rows[:, None].expand(-1, w, -1), cols[None].expand(h, -1, -1)], dim=-1)
        return rearrange(angles, "h w p -> (h w) p")


class CausalAttention(nn.Module):
    """Residual attention of each position over its last `window` frames, the present one among them.

    Keys and values of the last `window - 1` frames are what a chunk hands to the next: as many from the first frame
    on, since a clip starts from zero keys and values, as convolutions start from zeros. So the state's size is the
    same at every length. Rotary positions are counted within the chunk: only differences matter.
    """

    branch_end = "attention.out"  # the layer with the branch's last weights

    def __init__(self, width: int, head_dim: int, window: int) -> None:
        super().__init__()
        self.context = window - 1
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, head_dim)
        self.key = ""  # the layer's name in a Stream, set once by `name_layers`

    def forward(self, x: Float[Tensor, "b t h w d"], stream: Stream) -> Float[Tensor, "b t h w d"]:
        """Return `x` plus attention of each position over its past, and leave the last keys and values in `stream`."""
        b, t, h, w, _ = x.shape
        q, k, v = self.attention.project(rearrange(self.norm(x), "b t h w d -> (b h w) t d"))
        k, v = self._with_past(torch.stack([k, v]), (b, h, w), stream)
        parts = []
        for start in range(0, t, QUERY_FRAMES):
            stop = min(start + QUERY_FRAMES, t)
            keys = slice(start, stop + self.context)  # the context lies before the first
            parts.append(self._attend(q[:, :, start:stop], k[:, :, keys], v[:, :, keys]))
        y = self.attention.out(rearrange(torch.cat(parts, dim=2), "n k t d -> n t (k d)"))
        return x + rearrange(y, "(b h w) t d -> b t h w d", b=b, h=h)

    def _with_past(
        self, kv: Float[Tensor, "s n heads t d"], space: tuple[int, int, int], stream: Stream
    ) -> Float[Tensor, "s n heads m d"]:
        """Return keys and values of the context and of these frames, and leave the next context in the stream."""
        if self.context == 0:
            return kv
        b, h, w = space
        _, n, heads, _, d = kv.shape
        axes = {"s": 2, "k": heads}
        past = stream.past.get(self.key)
        if past is None:
            past = kv.new_zeros(2, n, heads, self.context, d)
        else:
            past = rearrange(past.to(kv.dtype), "b (s k d) t h w -> s (b h w) k t d", **axes)
        kv = torch.cat([past, kv], dim=3)
        # The layout of latents, so that states of tiles are cut and joined as those of convolutions are.
        last = rearrange(kv[..., -self.context :, :], "s (b h w) k t d -> b (s k d) t h w", b=b, h=h, w=w)
        # A copy, since a view would keep the whole chunk alive for as long as the state is.
        stream.next[self.key] = last.detach().clone()
        return kv

    def _attend(
        self, q: Float[Tensor, "n heads t d"], k: Float[Tensor, "n heads m d"], v: Float[Tensor, "n heads m d"]
    ) -> Float[Tensor, "n heads t d"]:
        """Return attention in which query i sees keys i to i + context."""
        count = k.shape[2]
        angles = rotary_angles(torch.arange(count, device=q.device), self.attention.head_dim // 2)
        q, k = apply_rotary_angles(q, angles[self.context :]), apply_rotary_angles(k, angles)
        mask = None
        if q.shape[2] > 1:
            mask = torch.ones(1, q.shape[2], count, dtype=torch.bool, device=q.device)
            mask = mask.triu().tril(self.context)
        return find_attention(self.attention.backend)(q, k, v, mask)
