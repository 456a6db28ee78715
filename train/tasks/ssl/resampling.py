"""Maps of one encoder at the places of another's tokens: by the frames and the area that they have in common."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vidgen.models.attention_patterns import Grid
from vidgen.models.feature_layers import FeatureInfo


def has_first_frame(info: FeatureInfo, names: set[str]) -> bool:
    """Return whether the first cell of a layer is one frame, as causal tokenizers code an image: of tokenizers, which
    have latents, and of denoisers. `names` are the modules of all layers of its encoder."""
    return info.module == "denoiser" or "latent" in names


def cell_edges(count: int, frames: int, first_alone: bool) -> Float[Tensor, "n two"]:
    """Return where each of `count` cells of so many frames begins and ends, in frames; the first may be one alone."""
    stops = frames * torch.arange(1, count + 1, dtype=torch.float32)
    if first_alone:
        stops = stops - frames + 1
    return torch.stack([torch.cat([torch.zeros(1), stops[:-1]]), stops], dim=1)


def overlap_shares(source: Float[Tensor, "j two"], target: Float[Tensor, "k two"]) -> Float[Tensor, "k j"]:
    """Return which mean of the source's cells each target cell has: by how many frames they have in common. One beyond
    the last source cell has that one."""
    target = target.clone()
    target[:, 1] = target[:, 1].clamp(max=float(source[-1, 1]))
    target[:, 0] = torch.minimum(target[:, 0], target[:, 1] - 1.0)
    common = torch.minimum(target[:, None, 1], source[:, 1]) - torch.maximum(target[:, None, 0], source[:, 0])
    common = common.clamp(min=0.0)
    return common / common.sum(1, keepdim=True)


def resample_map(
    maps: Float[Tensor, "b c j h w"], grid: Grid, source: Float[Tensor, "j two"], target: Float[Tensor, "k two"]
) -> Float[Tensor, "b c k p q"]:
    """Return a map at a grid: in time by `overlap_shares`, in space the mean of an area where it shrinks, and linear
    between cells where it grows."""
    shares = overlap_shares(source, target).to(maps)
    x = torch.einsum("kj,bcjhw->bckhw", shares, maps)
    size = tuple(grid[1:])
    if tuple(x.shape[3:]) == size:
        return x
    flat = x.transpose(1, 2).flatten(0, 1)
    shrinks = size[0] <= x.shape[3] and size[1] <= x.shape[4]
    if shrinks:
        flat = F.adaptive_avg_pool2d(flat, size)
    else:
        flat = F.interpolate(flat, size=size, mode="bilinear", align_corners=False)
    return flat.unflatten(0, (len(x), x.shape[2])).transpose(1, 2)
