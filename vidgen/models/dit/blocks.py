"""The blocks of a diffusion transformer, and what they read of a text."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention_patterns import AttentionPattern, Grid, over_frames, over_time, windows_of
from vidgen.models.dit.config import BlockConfig
from vidgen.models.layers import Attention, FeedForward, gated_sum, modulate
from vidgen.models.rope import Rotary
from vidgen.models.text.prepared import TextHeads, TextTokens


def make_attention(config: BlockConfig, context_width: int | None = None) -> Attention:
    """Return an attention layer: to a context of that width, or to its own input where there is none."""
    fused = config.fused_qkv and context_width is None
    return Attention(
        config.width, config.head_dim, context_width, qk_norm=config.qk_norm, eps=config.norm_eps, fused=fused
    )


class SwappedAttention(nn.Module):
    """Space and time read each other within 3-D windows (Wang et al. 2023, VideoFactory: swapped cross-attention).

    Attention over frames makes spatial features and attention over time temporal ones. The queries of one then look up
    keys and values of the other: those of time where `time_queries`, else those of space.
    """

    def __init__(self, config: BlockConfig, window: Grid, time_queries: bool) -> None:
        super().__init__()
        self.window, self.time_queries = window, time_queries
        self.space = make_attention(config)
        self.time = make_attention(config)
        self.between = make_attention(config, config.width)

    def forward(self, x: Float[Tensor, "b n d"], rotary: Rotary, grid: Grid) -> Float[Tensor, "b n d"]:
        """Return what the queries look up, for positions of `grid` (t, h, w) patches."""
        space = x + self.space(x, rotary=rotary, pattern=partial(over_frames, grid=grid))
        time = x + self.time(x, rotary=rotary, pattern=partial(over_time, grid=grid))
        queries, context = (time, space) if self.time_queries else (space, time)
        return self.between(queries, context, rotary=rotary, pattern=windows_of(grid, self.window, shifted=False))


class Block(nn.Module):
    """Self-attention, text cross-attention (where there is text) and feed-forward, modulated by adaLN-single.

    The six shifts, scales and gates come from one projection shared by all blocks plus a table of this block's own
    (Chen et al. 2024, PixArt-alpha, section 2.3), from adaLN-Zero (Peebles & Xie 2023, section 3.2). `attention` and
    `window` are those of `VideoDiTConfig`; of attention that alternates, `odd` blocks are over time, or in windows that
    are shifted, or ask with time.
    """

    def __init__(
        self, config: BlockConfig, attention: str = "full", window: Grid = (0, 0, 0), odd: bool = False
    ) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.kind = attention
        self.window = window
        self.odd = odd
        self.norm1 = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        swapped = attention == "swapped"
        self.attention = SwappedAttention(config, window, odd) if swapped else make_attention(config)
        if attention == "divided":
            self.norm_time = nn.LayerNorm(width, eps=eps)
            self.time_attention = make_attention(config)
        if config.text_width:
            self.norm_text = nn.LayerNorm(width, eps=eps)
            self.cross = make_attention(config, config.text_width)
        self.norm2 = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.mlp = FeedForward(width, config.mlp_ratio)
        self.table = nn.Parameter(torch.zeros(6, width))

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        cond: Float[Tensor, "b f six d"],
        text: TextTokens | TextHeads | None,
        rotary: Rotary,
        grid: Grid,
        causal: AttentionPattern | None = None,
    ) -> Float[Tensor, "b t s d"]:
        """Return the block's output for patches `x` of `grid`; `cond` has one row for a clip (f = 1) or for each frame
        (f = t). A `causal` pattern, which rotates queries and keys itself, takes the place of the block's own."""
        t = x.shape[1]
        if self.kind == "divided":  # over time first (Bertasius et al. 2021, TimeSformer, section 3)
            y = rearrange(self.norm_time(x), "b t s d -> b (t s) d")
            y = self.time_attention(y, rotary=rotary, pattern=partial(over_time, grid=grid))
            x = x + rearrange(y, "b (t s) d -> b t s d", t=t)
        # Each of the six is (b, f, 1, d), f being 1 or t: it holds for all positions of a frame.
        shift1, scale1, gate1, shift2, scale2, gate2 = (cond + self.table)[:, :, :, None].unbind(2)
        y = rearrange(modulate(self.norm1, x, shift1, scale1), "b t s d -> b (t s) d")
        if causal is not None:
            y = self.attention(y, pattern=causal)
        elif self.kind == "swapped":
            y = self.attention(y, rotary, grid)
        else:
            y = self.attention(y, rotary=rotary, pattern=self.pattern(grid))
        x = gated_sum(x, rearrange(y, "b (t s) d -> b t s d", t=t), gate1)
        if text is not None:
            if isinstance(text, TextTokens):
                text = TextHeads(*self.cross.keys_values(text.tokens), text.mask)
            y = rearrange(self.norm_text(x), "b t s d -> b (t s) d")
            x = x + rearrange(self.cross.look_up(y, *text), "b (t s) d -> b t s d", t=t)
        return gated_sum(x, self.mlp(modulate(self.norm2, x, shift2, scale2)), gate2)

    def pattern(self, grid: Grid) -> AttentionPattern | None:
        """Return which positions the modulated attention joins; None is all of them."""
        if self.kind == "full":
            return windows_of(grid, self.window, self.odd)
        return partial(over_time if self.kind == "factorised" and self.odd else over_frames, grid=grid)

    @property
    def self_attention(self) -> list[Attention]:
        """The layers in which positions see each other."""
        parts = [self.attention, *([self.time_attention] if self.kind == "divided" else [])]
        return [layer for part in parts for layer in part.modules() if isinstance(layer, Attention)]

    @property
    def ungated(self) -> list[nn.Linear]:
        """Last layers of branches that no gate closes: zero makes the block the identity at first."""
        children = dict(self.named_children())
        return [children[name].out for name in ("time_attention", "cross") if name in children]


def text_heads(blocks: Iterable[Block], text: TextTokens) -> tuple[TextHeads, ...]:
    """Return keys and values of every block's cross-attention to the text."""
    return tuple(TextHeads(*block.cross.keys_values(text.tokens), text.mask) for block in blocks)
