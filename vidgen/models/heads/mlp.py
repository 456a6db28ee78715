"""Projectors, predictors and prototypes: what stands between an encoder's features and an objective."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Projector(nn.Module):
    """Linear layers with a norm and ReLU between them, the last one plain (Chen et al. 2020, SimCLR, section 2.1).

    Batch normalisation is what keeps BYOL and SimSiam from collapsing early; "layer" norm does not see other clips.

    Args:
        width: Of the features.
        hidden: Of the layers between.
        channels: Of the embeddings.
        layers: 1 or more.
        norm: "batch", "layer" or "none".
    """

    def __init__(self, width: int, hidden: int, channels: int, *, layers: int = 2, norm: str = "batch") -> None:
        super().__init__()
        norms = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "none": lambda channels: nn.Identity()}
        parts: list[nn.Module] = []
        for i in range(layers - 1):
            parts += [nn.Linear(width if i == 0 else hidden, hidden), norms[norm](hidden), nn.ReLU()]
        self.layers = nn.Sequential(*parts, nn.Linear(hidden if layers > 1 else width, channels))

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        """Return embeddings; axes before the last are one batch."""
        return self.layers(x.flatten(0, -2)).reshape(*x.shape[:-1], -1)


class Prototypes(nn.Module):
    """Cosines of embeddings to `count` unit vectors that are learned (Caron et al. 2020, SwAV, section 3.1)."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(count, width) * width**-0.5)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        """Return the cosines."""
        return F.normalize(x.float(), dim=-1) @ F.normalize(self.vectors.float(), dim=-1).T
