"""The blocks of a VideoDiT."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.layers import Attention, FeedForward, gated_sum, modulate
from vidgen.models.positions import Rotary
from vidgen.models.prepared_text import TextHeads
from vidgen.models.text import TextEncoding
from vidgen.models.video_dit_config import VideoDiTConfig


class Block(nn.Module):
    """Self-attention, text cross-attention (where there is text) and feed-forward, modulated by adaLN-single.

    The six shifts, scales and gates come from one projection shared by all blocks plus a table of this block's own
    (Chen et al. 2024, PixArt-alpha, section 2.3), from adaLN-Zero (Peebles & Xie 2023, section 3.2).
    """

    def __init__(self, config: VideoDiTConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        kind = {"qk_norm": config.qk_norm, "eps": eps}
        self.norm1 = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.attention = Attention(width, config.head_dim, fused=config.fused_qkv, **kind)
        if config.text_width:
            self.norm_text = nn.LayerNorm(width, eps=eps)
            text_width = width if config.text_mlp else config.text_width
            self.cross = Attention(width, config.head_dim, text_width, **kind)
        self.norm2 = nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.mlp = FeedForward(width, config.mlp_ratio)
        self.table = nn.Parameter(torch.zeros(6, width))

    def forward(
        self,
        x: Float[Tensor, "b t s d"],
        cond: Float[Tensor, "b f six d"],
        text: TextEncoding | TextHeads | None,
        rotary: Rotary,
    ) -> Float[Tensor, "b t s d"]:
        t = x.shape[1]
        # Each of the six is (b, f, 1, d), f being 1 or t: it holds for all positions of a frame.
        shift1, scale1, gate1, shift2, scale2, gate2 = (cond + self.table)[:, :, :, None].unbind(2)
        y = rearrange(modulate(self.norm1, x, shift1, scale1), "b t s d -> b (t s) d")
        x = gated_sum(x, rearrange(self.attention(y, rotary=rotary), "b (t s) d -> b t s d", t=t), gate1)
        if text is not None:
            if isinstance(text, TextEncoding):
                text = TextHeads(*self.cross.keys_values(text.tokens), text.mask)
            y = rearrange(self.norm_text(x), "b t s d -> b (t s) d")
            x = x + rearrange(self.cross.look_up(y, *text), "b (t s) d -> b t s d", t=t)
        return gated_sum(x, self.mlp(modulate(self.norm2, x, shift2, scale2)), gate2)
