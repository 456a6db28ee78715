"""The blocks of a VideoDiT."""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention_patterns import AttentionPattern, Grid, over_frames, over_time, windows_of
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.layers import Attention, FeedForward, gated_sum, modulate
from vidgen.models.rope import Rotary
from vidgen.models.text.prepared import TextHeads, TextTokens


def make_attention(config: VideoDiTConfig, context_width: int | None = None) -> Attention:
    """Attention of the config's kind, to a context of another width or to what it is given itself."""
    kind = {"qk_norm": config.qk_norm, "eps": config.norm_eps}
    return Attention(config.width, config.head_dim, context_width, fused=config.fused_qkv and not context_width, **kind)


class SwappedAttention(nn.Module):
    """Space and time read each other within 3-D windows (Wang et al. 2023, VideoFactory: swapped cross-attention).

    Attention over frames makes spatial features and attention over time temporal ones. Queries from the one then look
    up keys and values of the other; which asks changes from block to block.
    """

    def __init__(self, config: VideoDiTConfig, index: int) -> None:
        super().__init__()
        self.window, self.time_asks = config.window, index % 2 == 1
        self.space, self.time = make_attention(config), make_attention(config)
        self.between = make_attention(config, config.width)

    def forward(self, x: Float[Tensor, "b n d"], rotary: Rotary, grid: Grid) -> Float[Tensor, "b n d"]:
        space = x + self.space(x, rotary=rotary, span=partial(over_frames, grid=grid))
        time = x + self.time(x, rotary=rotary, span=partial(over_time, grid=grid))
        asks, tells = (time, space) if self.time_asks else (space, time)
        return self.between(asks, tells, rotary=rotary, span=windows_of(grid, self.window, shifted=False))


class Block(nn.Module):
    """Self-attention, text cross-attention (where there is text) and feed-forward, modulated by adaLN-single.

    The six shifts, scales and gates come from one projection shared by all blocks plus a table of this block's own
    (Chen et al. 2024, PixArt-alpha, section 2.3), from adaLN-Zero (Peebles & Xie 2023, section 3.2). `index` is the
    block's place: of attention that alternates, odd blocks are over time, or in windows that are shifted.
    """

    def __init__(self, config: VideoDiTConfig, index: int) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.kind, self.window, self.odd = config.attention, config.window, index % 2 == 1
        self.norm1 = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.attention = SwappedAttention(config, index) if self.kind == "swapped" else make_attention(config)
        if self.kind == "divided":
            self.norm_time = nn.LayerNorm(width, eps=eps)
            self.time_attention = make_attention(config)
        if config.text_width:
            self.norm_text = nn.LayerNorm(width, eps=eps)
            self.cross = make_attention(config, width if config.text_mlp else config.text_width)
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
    ) -> Float[Tensor, "b t s d"]:
        t = x.shape[1]
        if self.kind == "divided":  # over time first (Bertasius et al. 2021, TimeSformer, section 3)
            y = rearrange(self.norm_time(x), "b t s d -> b (t s) d")
            y = self.time_attention(y, rotary=rotary, span=partial(over_time, grid=grid))
            x = x + rearrange(y, "b (t s) d -> b t s d", t=t)
        # Each of the six is (b, f, 1, d), f being 1 or t: it holds for all positions of a frame.
        shift1, scale1, gate1, shift2, scale2, gate2 = (cond + self.table)[:, :, :, None].unbind(2)
        y = rearrange(modulate(self.norm1, x, shift1, scale1), "b t s d -> b (t s) d")
        if self.kind == "swapped":
            y = self.attention(y, rotary, grid)
        else:
            y = self.attention(y, rotary=rotary, span=self.span(grid))
        x = gated_sum(x, rearrange(y, "b (t s) d -> b t s d", t=t), gate1)
        if text is not None:
            if isinstance(text, TextTokens):
                text = TextHeads(*self.cross.keys_values(text.tokens), text.mask)
            y = rearrange(self.norm_text(x), "b t s d -> b (t s) d")
            x = x + rearrange(self.cross.look_up(y, *text), "b (t s) d -> b t s d", t=t)
        return gated_sum(x, self.mlp(modulate(self.norm2, x, shift2, scale2)), gate2)

    def span(self, grid: Grid) -> AttentionPattern | None:
        """Which positions the modulated attention joins; None is all of them."""
        if self.kind == "full":
            return windows_of(grid, self.window, self.odd)
        return partial(over_time if self.kind == "factorised" and self.odd else over_frames, grid=grid)

    @property
    def self_attention(self) -> list[Attention]:
        """The layers in which positions see each other."""
        own = [self.attention, *([self.time_attention] if self.kind == "divided" else [])]
        return [layer for part in own for layer in part.modules() if isinstance(layer, Attention)]

    @property
    def ungated(self) -> list[nn.Linear]:
        """Last layers of branches that no gate closes: zero makes the block the identity at first."""
        return [getattr(self, name).out for name in ("time_attention", "cross") if hasattr(self, name)]
