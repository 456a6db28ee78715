"""The plain pre-norm block of priors and encoders: attention as its caller says, to a text, and a feed-forward."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention import Heads
from vidgen.models.dit.blocks import make_attention
from vidgen.models.dit.config import BlockConfig
from vidgen.models.layers import FeedForward
from vidgen.models.text.prepared import TextHeads

# Attention of unrotated queries to unrotated keys and values, which rotates them itself.
Attend = Callable[[Heads, Heads, Heads], Heads]


class TransformerBlock(nn.Module):
    """A pre-norm transformer block (Xiong et al. 2020) with cross-attention to text, where there is text."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = make_attention(config)
        if config.text_width:
            self.norm_text = nn.LayerNorm(width, eps=eps)
            self.cross = make_attention(config, config.text_width)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, config.mlp_ratio)

    def forward(self, x: Float[Tensor, "b n d"], attend: Attend, text: TextHeads | None) -> Float[Tensor, "b n d"]:
        """Return the block's output."""
        x = x + self.attention_branch(x, attend)
        if text is not None:
            x = x + self.cross.look_up(self.norm_text(x), *text)
        return x + self.mlp_branch(x)

    def attention_branch(self, x: Float[Tensor, "b n d"], attend: Attend) -> Float[Tensor, "b n d"]:
        """Return what attention adds to the stream."""
        q, k, v = self.attention.project(self.norm1(x))
        return self.attention.join(attend(q, k, v))

    def mlp_branch(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return what the feed-forward adds to the stream."""
        return self.mlp(self.norm2(x))

    @property
    def last_layers(self) -> list[nn.Linear]:
        """The layers that write to the stream."""
        return [self.attention.out, self.mlp.down, *([self.cross.out] if hasattr(self, "cross") else [])]
