"""Cells grouped without labels, by slots and by k-means, against the exact objects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.data.shapes.labels import ClipLabels
from vidgen.representations.dense.grids import BLOCKS, FeatureMaps, Grid, grid_key, inside
from vidgen.representations.dense.label_propagation import standardize
from vidgen.representations.dense.pca import fit_reductions
from vidgen.representations.dense.results import describe
from vidgen.representations.dense.slots import SlotSettings, follow_slots, train_slots
from vidgen.representations.dense.tracking import masks_to_cells
from vidgen.representations.probes.metrics import Metric, bootstrap_interval, share

CHANNELS = 16  # that are kept of features: of more, slots learn little in so few steps
STARTS = 3  # of k-means


def foreground_ari(groups: Int[np.ndarray, "t h w"], shares: Float[np.ndarray, "t h w o"]) -> float:
    """The adjusted Rand index (Hubert & Arabie 1985) of a clip's groups and objects, over all cells that are half an
    object's, or that an object has most of in their frame."""
    from sklearn.metrics import adjusted_rand_score

    there = inside(shares[None])[0].any(-1)
    return float(adjusted_rand_score(shares.argmax(-1)[there], groups[there]))


def count_ari(shares: Sequence[np.ndarray], groups: Sequence[np.ndarray]) -> Float[np.ndarray, "b 2"]:
    return np.array([(foreground_ari(mine, truth), 1.0) for mine, truth in zip(groups, shares, strict=True)])


FG_ARI = Metric(name="fg_ari", count=count_ari, value=share)


def cluster(x: Float[np.ndarray, "b t h w c"], count: int, seed: int) -> Int[np.ndarray, "b t h w"]:
    """k-means of each clip's cells (Lloyd 1982), the best of some starts."""
    from sklearn.cluster import KMeans

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are fewer different cells than groups is no fault
        for clip in x:
            cells = rearrange(clip, "t h w c -> (t h w) c")
            said = KMeans(count, n_init=STARTS, random_state=seed).fit_predict(cells)
            found.append(said.reshape(clip.shape[:3]))
    return np.stack(found)


def cut_blocks(h: int, w: int, count: int) -> Int[np.ndarray, "h w"]:
    """A frame cut into so many blocks of about one size: what comes of looking at nothing."""
    bands = int(count**0.5)
    band = np.arange(h) * bands // h
    widths = [(count + i) // bands for i in range(bands)]  # they sum to the count
    first = np.cumsum([0, *widths])
    return np.stack([first[b] + np.arange(w) * widths[b] // w for b in band])


@dataclass(kw_only=True)
class Held:
    """Features of one map and exact shares of cells, by part, batch by batch."""

    grid: Grid
    x: dict[str, list[Float[Tensor, "b t h w c"]]] = field(default_factory=dict)
    shares: dict[str, list[Float[np.ndarray, "b t h w o"]]] = field(default_factory=dict)


def group(
    maps_of: Callable[[str], Iterator[tuple[dict[str, FeatureMaps], list[ClipLabels]]]],
    settings: SlotSettings,
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of slots that are trained on the features of the training part alone, of k-means of the same features with
    as many clusters, and of blocks. Features are standardized on the clip, channel by channel: how light a whole clip
    is tells no object from another."""
    reductions = fit_reductions((evened(maps) for maps, _ in maps_of("train")), CHANNELS)
    held: dict[str, Held] = {}
    for part in ("train", "validation", "test"):
        for maps, labels in maps_of(part):
            shares = {grid: masks_to_cells(labels, grid)[..., 1:].numpy() for grid in {m.grid for m in maps.values()}}
            for key, one in evened(maps).items():
                mine = held.setdefault(key, Held(grid=one.grid))
                mine.x.setdefault(part, []).append(reductions[key](one.x))
                mine.shares.setdefault(part, []).append(shares[one.grid])
    rows = []
    for key, mine in held.items():
        x = {part: torch.cat(batches) for part, batches in mine.x.items()}
        shares = {part: np.concatenate(batches) for part, batches in mine.shares.items()}
        model = train_slots(x["train"], x["validation"], settings, seed)
        slots = {part: follow_slots(model, x[part], seed)[0].numpy() for part in ("validation", "test")}
        rows.append(row_of(key, mine.grid, "slots", slots, shares, seed))
        means = {part: cluster(x[part].numpy(), settings.count, seed) for part in ("validation", "test")}
        rows.append(row_of(key, mine.grid, "k-means", means, shares, seed))
    for grid in dict.fromkeys(mine.grid for mine in held.values()):
        shares = next(mine.shares for mine in held.values() if mine.grid == grid)
        shares = {part: np.concatenate(batches) for part, batches in shares.items()}
        blocks = cut_blocks(*grid.shape, settings.count)
        same = {part: np.broadcast_to(blocks, each.shape[:-1]) for part, each in shares.items()}
        rows.append(row_of(grid_key(BLOCKS, grid), grid, BLOCKS, same, shares, seed))
    return rows


def evened(maps: Mapping[str, FeatureMaps]) -> dict[str, FeatureMaps]:
    return {key: replace(one, x=standardize(one.x)) for key, one in maps.items()}


def row_of(
    key: str,
    grid: Grid,
    kind: str,
    groups: dict[str, Int[np.ndarray, "b t h w"]],
    shares: dict[str, Float[np.ndarray, "b t h w o"]],
    seed: int,
) -> dict[str, Any]:
    counts = {part: count_ari(shares[part], groups[part]) for part in ("validation", "test")}
    clips = np.arange(len(counts["test"]))
    ci = bootstrap_interval(FG_ARI, counts["test"], clips, seed)
    return describe(
        "slots", key, grid, kind=kind, metric=FG_ARI.name, validation=FG_ARI(counts["validation"]),
        test=FG_ARI(counts["test"]), ci=ci, clips=len(clips), baseline=kind != "slots",
    )  # fmt: skip
