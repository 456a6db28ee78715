"""Root mean square normalisation over channels, which is followed by SiLU wherever a convolution comes next."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LEAST_NORM = 1e-12  # what a vector is divided by at least, so that zeros stay zeros


class RMSNorm(nn.Module):
    """Every position over the root mean square of its channels, times a weight each (Zhang & Sennrich 2019, eq. 4).

    Time is never mixed, so streaming stays exact. Computed in float32 at least.
    """

    def __init__(self, c: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(c))

    def forward(self, x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        # In channels_last_3d memory both moves are views and the normalised axis is contiguous.
        wide = x.movedim(1, -1).to(torch.promote_types(x.dtype, torch.float32))
        wide = F.normalize(wide, dim=-1, eps=LEAST_NORM) * (len(self.weight) ** 0.5 * self.weight.to(wide.dtype))
        return wide.to(x.dtype).movedim(-1, 1)
