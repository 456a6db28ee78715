"""What is known of one frame, carried to the others along the features that agree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

NEARER = 1e-5  # of cosine a cell away: among equal matches the nearer one counts


@dataclass(frozen=True, kw_only=True)
class Affinity:
    """How a cell finds its like. top_k: so many matches count. temperature: of the softmax over their cosines.
    context: frames before that are looked at, besides the first. radius: rows and columns away that a match in them may
    lie, None for any; the first frame, whose labels are given, may be looked at anywhere."""

    top_k: int = 5
    temperature: float = 0.1
    context: int = 3
    radius: int | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.context < 1 or not self.temperature > 0 or (self.radius or 0) < 0:
            raise ValueError(f"top_k and context must be at least 1, temperature above 0, radius 0 or more; got {self}")


def propagate(
    features: Float[Tensor, "b t h w c"], values: Float[Tensor, "b h w o"], how: Affinity
) -> Float[Tensor, "b t h w o"]:
    """Values of the first frame in every frame: each cell takes the mean of those that its nearest cells in the first
    frame and in the `context` frames before it have, weighted by a softmax (Jabri et al. 2020, section 3.3).

    Features are standardized on the clip, channel by channel, before their cosines are taken. The first frame comes
    back as it is given.
    """
    keys = rearrange(unit(standardize(features)), "b t h w c -> b t (h w) c")
    h, w = values.shape[1:3]
    apart = distances(h, w).to(keys)  # n m
    known = [rearrange(values, "b h w o -> b (h w) o").to(keys)]
    for t in range(1, features.shape[1]):
        past = [0, *range(max(1, t - how.context), t)]
        cosines = einsum(keys[:, t], keys[:, past], "b n c, b p m c -> b n p m") - NEARER * apart[:, None]
        if how.radius is not None:
            cosines[:, :, 1:].masked_fill_((apart > how.radius)[:, None], -torch.inf)
        scores = rearrange(cosines, "b n p m -> b n (p m)")
        best, where = scores.topk(min(how.top_k, scores.shape[-1]), dim=-1)
        weights = torch.zeros_like(scores).scatter(-1, where, (best / how.temperature).softmax(-1))
        sources = rearrange(torch.stack([known[p] for p in past], dim=1), "b p m o -> b (p m) o")
        known.append(einsum(weights, sources, "b n s, b s o -> b n o"))
    return rearrange(torch.stack(known, dim=1), "b t (h w) o -> b t h w o", h=h, w=w)


def standardize(features: Float[Tensor, "b t h w c"]) -> Float[Tensor, "b t h w c"]:
    """Every channel of a clip less its mean, and over its standard deviation where it has one."""
    x = features.float()
    centred = x - x.mean((1, 2, 3), keepdim=True)
    std = centred.square().mean((1, 2, 3), keepdim=True).sqrt()
    return centred / torch.where(std > 1e-6, std, 1.0)


def unit(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    return torch.nn.functional.normalize(x, dim=-1)


def distances(h: int, w: int) -> Float[Tensor, "n m"]:
    """Between any two cells of a grid: the larger of rows and columns apart."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack([y.flatten(), x.flatten()], dim=-1).float()
    return torch.cdist(places, places, p=float("inf"))
