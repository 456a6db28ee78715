"""A narrow transformer that says what is at places that an encoder did not see: decoder of MAE, predictor of JEPA."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.models.attention_patterns import Grid
from vidgen.models.dit.config import BlockConfig
from vidgen.models.encoders.video_vit import PlaceEmbedding, attend_rotated, rotary_rows, take_rows
from vidgen.models.transformer_block import TransformerBlock


class TokenPredictor(nn.Module):
    """Tokens that were seen, and a learned query at every place that is asked for, in one transformer (He et al. 2022,
    MAE, section 3, decoder; Bardes et al. 2024, V-JEPA, section 3.2, predictor).

    Args:
        context_width: Of the encoder's tokens.
        out: Channels of what is predicted.
        width, depth, head_dim: Of the transformer.
    """

    def __init__(self, context_width: int, out: int, *, width: int = 96, depth: int = 2, head_dim: int = 48) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.context_in = nn.Linear(context_width, width)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.place = PlaceEmbedding(width, head_dim)
        block = BlockConfig(width=width, head_dim=head_dim)
        self.blocks = nn.ModuleList([TransformerBlock(block) for _ in range(depth)])
        self.norm_out = nn.LayerNorm(width)
        self.out = nn.Linear(width, out)

    def forward(
        self,
        context: Float[Tensor, "b k d"],
        keep: Int[Tensor, "b k"],
        asked: Int[Tensor, "b m"],
        grid: Grid,
    ) -> Float[Tensor, "b m out"]:
        """Return predictions at the places `asked` of a grid; `context` are tokens at the places `keep`.

        A place may be in both: its query is answered from its own token too (V-JEPA 2.1's loss on visible tokens).
        """
        places = torch.cat([keep, asked], dim=1)
        x = self.context_in(context)
        x = torch.cat([x, self.query.to(x.dtype).expand(*asked.shape, -1)], dim=1)
        x = x + take_rows(self.place(grid, x).to(x.dtype).expand(len(x), -1, -1), places)
        rotary = rotary_rows(grid, self.head_dim, x, places)
        for block in self.blocks:
            x = block(x, partial(attend_rotated, rotary=rotary), None)
        return self.out(self.norm_out(x[:, keep.shape[1] :]))
