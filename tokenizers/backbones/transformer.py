"""The block of the transformer backbone: attention within windows of a frame, then over the past, then an MLP."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.layers import FeedForward
from vidgen.tokenizers.backbones.attention import CausalAttention, WindowAttention
from vidgen.tokenizers.backbones.convolutions import Stream


class TransformerBlock(nn.Module):
    """Window attention in space, causal attention in time, feed-forward: three residual steps, each normalized before.

    Space and time are attended to apart, as in C-ViViT (Villegas et al. 2022, Phenaki, section 2.1) and OmniTokenizer
    (Wang et al. 2024, section 3.1), here by turns rather than all of space first. Two differences: the past is
    bounded, and the first frame has no embedding of its own, since it is repeated to fill a patch. A linear map comes
    first where the width changes.
    """

    branch_end = "mlp.down"  # the layer with the branch's last weights

    def __init__(self, c_in: int, c_out: int, *, head_dim: int, window: int, shifted: bool, time_window: int) -> None:
        super().__init__()
        self.widen = nn.Linear(c_in, c_out) if c_in != c_out else nn.Identity()
        self.space = WindowAttention(c_out, head_dim, window, shifted)
        self.time = CausalAttention(c_out, head_dim, time_window)
        self.norm = nn.LayerNorm(c_out)
        self.mlp = FeedForward(c_out)

    def forward(self, x: Float[Tensor, "b c t h w"], stream: Stream) -> Float[Tensor, "b d t h w"]:
        """Return `x` after attention in space, attention in time and the MLP."""
        x = self.widen(rearrange(x, "b c t h w -> b t h w c"))
        x = self.time(self.space(x), stream)
        x = x + self.mlp(self.norm(x))
        return rearrange(x, "b t h w d -> b d t h w")
