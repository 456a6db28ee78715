"""Pools of features: which of the axes of time and space are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from einops import reduce
from jaxtyping import Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureInfo

# Pools of features (b, t, h, w, c); what is left of the axes is in the comment.
POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,  # b t h w c
    "mean": lambda x: reduce(x, "b t h w c -> b c", "mean"),
    "max": lambda x: reduce(x, "b t h w c -> b c", "max"),
    "temporal": lambda x: reduce(x, "b t h w c -> b h w c", "mean"),  # over time
    "spatial": lambda x: reduce(x, "b t h w c -> b t c", "mean"),  # over space
}
FRAME = "frame"  # b T c: over space, and a row for every frame of the video, that of the feature frame it is part of


def check_pool(pool: str, layers: Sequence[FeatureInfo]) -> None:
    """Raise VidgenError for an unknown pool, and for numbers of codes, which have no mean."""
    if pool == "attentive":
        raise VidgenError(
            "pool 'attentive' has weights that are learned: extract with 'none' and probe with 'attentive'"
        )
    if pool not in (*POOLS, FRAME):
        raise VidgenError(f"pool {pool!r} is unknown; choose one of {', '.join((*POOLS, FRAME))}")
    if pool != "none" and (codes := [info.name for info in layers if info.module == "codes"]):
        raise VidgenError(f"{codes[0]} are numbers of codes, which have no {pool}; take pool 'none', or the latents")


def owners(last: Int[Tensor, " t"], num_frames: int) -> Int[Tensor, " T"]:
    """Return for each video frame the feature frame it is part of, `last` being the last video frame of each.

    Where a first frame has several feature frames, it is the last of those.
    """
    first = torch.searchsorted(last, torch.arange(num_frames))
    return torch.searchsorted(last, last[first], right=True) - 1
