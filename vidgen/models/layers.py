"""Layers of transformers over clips: embeddings of noise levels, norms with a modulation, attention, feed-forward."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention import Heads, Mask, find_attention
from vidgen.models.attention_patterns import AttentionPattern
from vidgen.models.blockwise import add_gated, normed_heads, scale_and_shift, worth_blocks
from vidgen.models.rope import Rotary, apply_rotary_emb


def sinusoidal(t: Float[Tensor, ...], width: int, scale: float = 1000.0) -> Float[Tensor, "... width"]:
    """Return sines and cosines of `scale` t at `width` / 2 frequencies from 1 to 1e-4 (Vaswani et al. 2017, 3.5)."""
    steps = torch.arange(width // 2, device=t.device, dtype=torch.float32)
    angles = scale * t[..., None].float() * torch.exp(-math.log(1e4) * steps / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def settle(y: Tensor, x: Tensor) -> Tensor:
    """Return `y` in the precision of `x`, where tables in float32 have raised it; autocast has its own rules."""
    return y if y.dtype == x.dtype or torch.is_autocast_enabled(x.device.type) else y.to(x.dtype)


def modulate(
    norm: nn.LayerNorm,
    x: Float[Tensor, "b t s d"],
    shift: Float[Tensor, "b f one d"],
    scale: Float[Tensor, "b f one d"],
) -> Float[Tensor, "b t s d"]:
    """Return the norm of x, which has no weights of its own, times 1 + scale, plus shift; f is 1 or t."""
    if worth_blocks(x):
        return scale_and_shift(x, shift, scale, norm.eps)
    return settle(norm(x) * (1.0 + scale) + shift, x)


def gated_sum(
    x: Float[Tensor, "b t s d"], y: Float[Tensor, "b t s d"], gate: Float[Tensor, "b f one d"]
) -> Float[Tensor, "b t s d"]:
    """Return x + gate y; f is 1 or t."""
    return add_gated(x, y, gate) if worth_blocks(x) else settle(x + gate * y, x)


class Attention(nn.Module):
    """Multi-head attention of positions to each other, or to a context.

    Queries and keys are normalized: each head by a layer norm (Dehghani et al. 2023, section 2), or all heads together
    by their root mean square (`qk_norm` "rms_norm_across_heads", as in Wan). `fused` makes queries, keys and values of
    self-attention in one product.

    `override`, while it is set, takes the place of whatever pattern joins the positions: see `override_attention`.
    """

    def __init__(
        self,
        width: int,
        head_dim: int,
        context_width: int | None = None,
        *,
        qk_norm: str = "layer_norm",
        eps: float = 1e-5,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.fused = fused
        self.backend = "auto"
        self.override: AttentionPattern | None = None
        self.across = qk_norm == "rms_norm_across_heads"
        if fused:
            self.to_qkv = nn.Linear(width, 3 * width)
        else:
            self.to_q = nn.Linear(width, width)
            self.to_kv = nn.Linear(context_width or width, 2 * width)
        for name in ("norm_q", "norm_k"):
            norm = nn.RMSNorm(width, eps=eps) if self.across else nn.LayerNorm(head_dim, eps=eps, bias=False)
            setattr(self, name, norm)
        self.out = nn.Linear(width, width)

    def project(
        self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m e"] | None = None, rotary: Rotary | None = None
    ) -> tuple[Heads, ...]:
        """Return queries of `x`, keys and values of `context` or of `x`; queries and keys are normalized, and rotated
        by `rotary`."""
        if self.fused:
            q, k, v = self.to_qkv(x).chunk(3, dim=-1)
        else:
            q = self.to_q(x)
            k, v = self.to_kv(x if context is None else context).chunk(2, dim=-1)
        return self.normed(q, self.norm_q, rotary), self.normed(k, self.norm_k, rotary), self.heads(v)

    def keys_values(self, context: Float[Tensor, "b m e"]) -> tuple[Heads, Heads]:
        """Return keys and values of `context`, for `look_up` by any queries."""
        k, v = self.to_kv(context).chunk(2, dim=-1)
        return self.normed(k, self.norm_k), self.heads(v)

    def look_up(self, x: Float[Tensor, "b n d"], k: Heads, v: Heads, mask: Mask | None) -> Float[Tensor, "b n d"]:
        """Return the attention of `x` to keys and values that `keys_values` made."""
        q = self.normed(self.to_q(x), self.norm_q)
        return self.join(find_attention(self.backend)(q, k, v, mask))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m e"] | None = None,
        mask: Mask | None = None,
        rotary: Rotary | None = None,
        pattern: AttentionPattern | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Return the attention of `x`; `pattern` is which positions attend to each other, None for all of them, as a
        mask needs it."""
        q, k, v = self.project(x, context, rotary)
        attend = find_attention(self.backend)
        pattern = self.override or pattern
        return self.join(attend(q, k, v, mask) if pattern is None else pattern(attend, q, k, v))

    def heads(self, y: Float[Tensor, "b n w"]) -> Heads:
        """Return channels split into heads."""
        # Views of PyTorch's own: a pattern that einops reads took a tenth of a token's time, where these are one row.
        return y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def normed(self, y: Float[Tensor, "b n w"], norm: nn.Module, rotary: Rotary | None = None) -> Heads:
        """Return normalized heads, rotated by `rotary` where there is one."""
        if self.across and worth_blocks(y):
            return normed_heads(y, norm.weight, norm.eps, self.head_dim, rotary)
        z = (self.heads(norm(y)) if self.across else norm(self.heads(y))).to(y.dtype)
        return z if rotary is None else apply_rotary_emb(z, rotary)

    def join(self, attended: Heads) -> Float[Tensor, "b n d"]:
        """Return the layer's output from that of its heads."""
        return self.out(attended.transpose(1, 2).flatten(2))


@contextmanager
def override_attention(layers: Iterable[Attention], pattern: AttentionPattern) -> Iterator[None]:
    """Make `pattern` join the positions of these layers within the context, for all that run them meanwhile."""
    before = [(layer, layer.override) for layer in layers]
    try:
        for layer, _ in before:
            layer.override = pattern
        yield
    finally:
        for layer, former in before:
            layer.override = former


class FeedForward(nn.Module):
    """Linear, GELU (tanh form), linear, with `ratio` times the width between."""

    def __init__(self, width: int, ratio: float = 4) -> None:
        super().__init__()
        hidden = round(ratio * width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """Return the output for each position."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))
