"""Features with fewer channels, so that what is fitted on top of them is small whatever the model's width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.representations.dense.grids import FeatureMaps

CLIPS = 16  # a reduction is fitted on the cells of so many


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """An affine map of channels, applied by a call."""

    mean: Float[Tensor, " c"]
    axes: Float[Tensor, "c r"]

    def __call__(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n r"]:
        return (x.float() - self.mean) @ self.axes


def fit_reduction(x: Float[Tensor, "n c"], width: int) -> Reduction:
    """Channels standardized, turned to their principal axes, of which the first `width` are kept where so many vary,
    and scaled together to a mean square of 1 on `x`."""
    x = x.double()
    mean, std = x.mean(0), x.std(0, correction=0)
    scale = torch.where(std > 1e-6 * std.max(), 1 / std, 0.0)
    z = (x - mean) * scale
    if len(z) < z.shape[1]:  # the smaller of both products has all the axes
        values, mixed = torch.linalg.eigh(z @ z.T)
        axes = z.T @ mixed / values.clamp(min=1e-12).sqrt()
    else:
        values, axes = torch.linalg.eigh(z.T @ z)
    kept = (values > 1e-9 * values.max()).nonzero()[-width:, 0].flip(0)
    # all axes are kept in the same proportion: what varies little is no more than it was
    axes = scale[:, None] * axes[:, kept] / (values[kept].mean() / len(z)).sqrt()
    return Reduction(mean=mean.float(), axes=axes.float())


def fit_reductions(batches: Iterable[Mapping[str, FeatureMaps]], width: int) -> dict[str, Reduction]:
    """By key, on the first clips of the batches; no more of them are asked for than it takes."""
    seen: dict[str, list[Tensor]] = {}
    clips = 0
    for maps in batches:
        for key, one in maps.items():
            seen.setdefault(key, []).append(rearrange(one.x[: CLIPS - clips], "b t h w c -> (b t h w) c"))
        clips += len(next(iter(maps.values())).x)
        if clips >= CLIPS:
            break
    return {key: fit_reduction(torch.cat(parts), width) for key, parts in seen.items()}
