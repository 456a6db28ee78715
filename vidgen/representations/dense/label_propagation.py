"""DAVIS-style label propagation: labels of the first frame, carried to the other frames along features that agree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.bounds import Count, NoOrCount, Positive, check_fields
from vidgen.representations.probes.standardization import Standardizer

DISTANCE_PENALTY = 1e-5  # of cosine a cell away: among equal matches the nearer one counts


@dataclass(frozen=True, kw_only=True)
class PropagationSettings:
    """How labels are propagated.

    top_k: so many matches of a cell count. temperature: of the softmax over their cosines. context: frames before that
    are looked at, besides the first. radius: rows and columns away that a match in them may lie, None for any; the
    first frame, whose labels are exact, may be looked at anywhere. Raises ValueError for settings out of range.
    """

    top_k: Count = 5
    temperature: Positive = 0.1
    context: Count = 3
    radius: NoOrCount | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def propagate_labels(
    features: Float[Tensor, "b t h w c"], labels: Float[Tensor, "b h w o"], settings: PropagationSettings
) -> Float[Tensor, "b t h w o"]:
    """Return labels of every frame, from those of the first: each cell takes the mean of the labels that its nearest
    cells in the first frame and in the `context` frames before it have, weighted by a softmax (Jabri et al. 2020,
    section 3.3).

    Features are standardized on the clip, channel by channel, before their cosines are taken. The first frame's labels
    come back as they are.
    """
    keys = torch.nn.functional.normalize(standardize_clips(features), dim=-1)
    keys = rearrange(keys, "b t h w c -> b t (h w) c")
    h, w = labels.shape[1:3]
    distance = cell_distances(h, w).to(keys)  # n m
    propagated = [rearrange(labels, "b h w o -> b (h w) o").to(keys)]
    for t in range(1, features.shape[1]):
        context = [0, *range(max(1, t - settings.context), t)]
        cosines = einsum(keys[:, t], keys[:, context], "b n c, b p m c -> b n p m")
        cosines = cosines - DISTANCE_PENALTY * distance[:, None]
        if settings.radius is not None:
            cosines[:, :, 1:].masked_fill_((distance > settings.radius)[:, None], -torch.inf)
        scores = rearrange(cosines, "b n p m -> b n (p m)")
        best, where = scores.topk(min(settings.top_k, scores.shape[-1]), dim=-1)
        weights = torch.zeros_like(scores).scatter(-1, where, (best / settings.temperature).softmax(-1))
        sources = rearrange(torch.stack([propagated[p] for p in context], dim=1), "b p m o -> b (p m) o")
        propagated.append(einsum(weights, sources, "b n s, b s o -> b n o"))
    return rearrange(torch.stack(propagated, dim=1), "b t (h w) o -> b t h w o", h=h, w=w)


def standardize_clips(features: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w c"]:
    """Return features with every channel of a clip less its mean, and over its standard deviation where it has one."""
    x = features.float()
    return Standardizer.fit(x, (1, 2, 3), keepdims=True).transform(x)


def cell_distances(h: int, w: int) -> Float[Tensor, "n m"]:
    """Return the distance between any two cells of a grid: the larger of rows and columns apart."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    positions = torch.stack([y.flatten(), x.flatten()], dim=-1).float()
    return torch.cdist(positions, positions, p=float("inf"))
