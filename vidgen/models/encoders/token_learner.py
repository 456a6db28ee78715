"""TokenLearner: a handful of tokens that look at a frame, or at a clip, each in its own learned way."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

SCOPES = ("frame", "clip")  # what the tokens are learned of


class TokenLearner(nn.Module):
    """Tokens z_i = sum_p A_i(p) x_p over the places p of a frame or clip, A_i a map of attention that is learned (Ryoo
    et al. 2021, TokenLearner, eq. 1). A is an MLP of each token here, with a softmax over places, where the paper has
    convolutions and a sigmoid.

    Args:
        width: Of tokens.
        tokens: How many are made of each frame or clip.
    """

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.maps = nn.Linear(width, tokens)

    def forward(self, x: Float[Tensor, "b f p d"]) -> tuple[Float[Tensor, "b f s d"], Float[Tensor, "b f p s"]]:
        """Return the tokens of each frame f from those at its places p, and which of them stand for each place: shares
        that sum to 1, each token's part in the attention that a place gets."""
        logits = self.maps(F.gelu(self.hidden(self.norm(x)))).float().log_softmax(dim=2)
        tokens = torch.einsum("bfps,bfpd->bfsd", logits.exp().to(x.dtype), x)
        return tokens, logits.softmax(dim=3).to(x.dtype)
