"""A narrow transformer that says what is at places that an encoder did not see: decoder of MAE, predictor of JEPA."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.bounds import Depth, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.models.attention_patterns import Grid
from vidgen.models.dit.config import BlockConfig, check_heads
from vidgen.models.encoders.video_vit import PlaceEmbedding, attend_rotated, rotary_rows, take_rows
from vidgen.models.transformer_block import TransformerBlock


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Shape of the transformer of a `TokenPredictor`."""

    width: Width = 96
    depth: Depth = 2
    head_dim: Width = 48

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.width, self.head_dim)


@dataclass(frozen=True, kw_only=True)
class TokenPredictorConfig(PredictorConfig, ConfigMapping):
    """The same, with what it reads and answers: channels of the encoder's tokens, and `channels` of what is predicted.

    target_layer: of a teacher, whose features are predicted; "" for its output.
    """

    context_width: Width = 144
    channels: Width = 144
    target_layer: str = ""


class TokenPredictor(Pretrained):
    """Tokens that were seen, and a learned query at every place that is asked for, in one transformer (He et al. 2022,
    MAE, section 3, decoder; Bardes et al. 2024, V-JEPA, section 3.2, predictor)."""

    config_class = TokenPredictorConfig

    def __init__(self, config: TokenPredictorConfig) -> None:
        super().__init__(config)
        width, head_dim = config.width, config.head_dim
        self.context_in = nn.Linear(config.context_width, width)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.place = PlaceEmbedding(width, head_dim)
        block = BlockConfig(width=width, head_dim=head_dim)
        self.blocks = nn.ModuleList([TransformerBlock(block) for _ in range(config.depth)])
        self.norm_out = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.channels)

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
        rotary = rotary_rows(grid, self.config.head_dim, x, places)
        for block in self.blocks:
            x = block(x, partial(attend_rotated, rotary=rotary), None)
        return self.out(self.norm_out(x[:, keep.shape[1] :]))
