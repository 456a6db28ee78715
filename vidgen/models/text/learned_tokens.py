"""Learned tokens: what a few clips show, or how they move, as tokens beside a prompt's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.bounds import Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.pretrained import Pretrained


@dataclass(frozen=True, kw_only=True)
class LearnedTokensConfig(ConfigMapping):
    """`tokens` tokens, each `text_width` wide, as those of the text encoder."""

    text_width: Width = 128
    tokens: Width = 4

    def __post_init__(self) -> None:
        check_fields(self)


class LearnedTokens(Pretrained):
    """Tokens in the space of a text encoder's, found by a frozen denoiser's loss on clips (Gal et al. 2022, textual
    inversion, eq. 2; of a motion: Kansy et al. 2024, Reenact Anything). They stand in place of a reference picture."""

    config_class = LearnedTokensConfig

    def __init__(self, config: LearnedTokensConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Parameter(torch.randn(config.tokens, config.text_width))

    def forward(self) -> Float[Tensor, "n d"]:
        """Return the tokens."""
        return self.tokens
