"""Principal components: features with fewer channels, so that a probe of them is small whatever the model's width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.representations.dense.grids import FeatureMaps
from vidgen.representations.probes.standardization import Standardizer

CLIPS = 16  # a reduction is fitted on the cells of so many


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """An affine map of channels, applied by a call."""

    mean: Float[Tensor, " c"]
    axes: Float[Tensor, "c r"]

    def __call__(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n r"]:
        return (x.float() - self.mean) @ self.axes


def fit_reduction(x: Float[Tensor, "n c"], width: int) -> Reduction:
    """Return the reduction that standardizes channels, turns them to their principal axes, keeps the first `width` of
    these where so many vary, and scales them together to a mean square of 1 on `x`."""
    x = x.double()
    scaler = Standardizer.fit(x, least=1e-6 * float(x.std(0, correction=0).max()), constant=inf)
    scale = 1 / scaler.std
    z = (x - scaler.mean) * scale
    if len(z) < z.shape[1]:  # the smaller of both products has all the axes
        values, mixed = torch.linalg.eigh(z @ z.T)
        axes = z.T @ mixed / values.clamp(min=1e-12).sqrt()
    else:
        values, axes = torch.linalg.eigh(z.T @ z)
    leading = (values > 1e-9 * values.max()).nonzero()[-width:, 0].flip(0)
    # all axes stay in the same proportion: what varies little is no more than it was
    axes = scale[:, None] * axes[:, leading] / (values[leading].mean() / len(z)).sqrt()
    return Reduction(mean=scaler.mean.float(), axes=axes.float())


def fit_reductions(batches: Iterable[Mapping[str, FeatureMaps]], width: int) -> dict[str, Reduction]:
    """Return reductions by key, fitted on the first clips of the batches; no more batches are read than it takes."""
    cells: dict[str, list[Tensor]] = {}
    clips = 0
    for maps in batches:
        for key, one in maps.items():
            cells.setdefault(key, []).append(rearrange(one.x[: CLIPS - clips], "b t h w c -> (b t h w) c"))
        clips += len(next(iter(maps.values())).x)
        if clips >= CLIPS:
            break
    return {key: fit_reduction(torch.cat(parts), width) for key, parts in cells.items()}
