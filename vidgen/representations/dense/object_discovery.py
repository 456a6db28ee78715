"""Object discovery: cells grouped without labels, by slots and by k-means, against the exact objects."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vidgen.data.shapes.labels import ClipLabels
from vidgen.representations.dense.grids import BLOCKS, PARTS, Grid, ReadPart, collect, grid_key, inside
from vidgen.representations.dense.label_propagation import standardize_clips
from vidgen.representations.dense.pca import fit_reductions
from vidgen.representations.dense.results import counted_row
from vidgen.representations.dense.slots import SlotSettings, assign_slots, train_slots
from vidgen.representations.dense.tracked_labels import masks_to_cells
from vidgen.representations.probes.metrics import Metric, count_mean, ratio_of_sums

CHANNELS = 16  # of reduced features: of more, slots learn little in so few steps
STARTS = 3  # of k-means


def foreground_ari(groups: Int[np.ndarray, "t h w"], shares: Float[np.ndarray, "t h w o"]) -> float:
    """Return the adjusted Rand index (Hubert & Arabie 1985) of a clip's groups and objects, over all cells that are
    half an object's, or that an object has most of in their frame."""
    from sklearn.metrics import adjusted_rand_score

    foreground = inside(shares[None])[0].any(-1)
    return float(adjusted_rand_score(shares.argmax(-1)[foreground], groups[foreground]))


def count_ari(shares: Sequence[np.ndarray], groups: Sequence[np.ndarray]) -> Float[np.ndarray, "b 2"]:
    """Return the counts whose mean is the clips' `foreground_ari`."""
    return count_mean(np.array([foreground_ari(each, truth) for each, truth in zip(groups, shares, strict=True)]))


FG_ARI = Metric(name="fg_ari", count=count_ari, value=ratio_of_sums)


def cluster(x: Float[np.ndarray, "b t h w c"], count: int, seed: int) -> Int[np.ndarray, "b t h w"]:
    """Return the groups of k-means of each clip's cells (Lloyd 1982), the best of some starts."""
    from sklearn.cluster import KMeans

    kmeans = KMeans(count, n_init=STARTS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are fewer different cells than groups is no fault
        return np.stack([kmeans.fit_predict(clip.reshape(-1, clip.shape[-1])).reshape(clip.shape[:3]) for clip in x])


def cut_blocks(h: int, w: int, count: int) -> Int[np.ndarray, "h w"]:
    """Return a frame cut into so many blocks of about one size: groups that look at nothing."""
    bands = int(count**0.5)
    band = np.arange(h) * bands // h
    widths = [(count + i) // bands for i in range(bands)]  # they sum to the count
    first = np.cumsum([0, *widths])
    return np.stack([first[b] + np.arange(w) * widths[b] // w for b in band])


def object_shares(clips: Sequence[ClipLabels], grid: Grid) -> tuple[Float[np.ndarray, "b t h w o"]]:
    """Return the share of every cell that is each object's."""
    return (masks_to_cells(clips, grid)[..., 1:].numpy(),)


def object_discovery_rows(read_part: ReadPart, settings: SlotSettings, seed: int) -> list[dict[str, Any]]:
    """Return rows of slots that are trained on the features of the training part alone, of k-means of the same features
    with as many clusters, and of blocks.

    Features are standardized on the clip, channel by channel: how light a whole clip is tells no object from another.
    """
    standardized = (
        {key: replace(one, x=standardize_clips(one.x)) for key, one in maps.items()} for maps, _ in read_part("train")
    )
    reductions = fit_reductions(standardized, CHANNELS)
    parts = {
        part: collect(read_part(part), object_shares, lambda key, x: reductions[key](standardize_clips(x)))
        for part in PARTS
    }

    def row_of(key: str, grid: Grid, kind: str, groups: dict[str, Int[np.ndarray, "m t h w"]]) -> dict[str, Any]:
        validation, test = (count_ari(parts[part].truth[grid][0], groups[part]) for part in ("validation", "test"))
        scored = {"kind": kind, "validation": FG_ARI(validation), "baseline": kind != "slots"}
        return counted_row("slots", key, grid, FG_ARI, test, seed, **scored)

    rows = []
    for key, grid in parts["train"].grids.items():
        x = {part: parts[part].x[key] for part in PARTS}
        model = train_slots(x["train"], x["validation"], settings, seed)
        slots = {part: assign_slots(model, x[part], seed)[0].numpy() for part in ("validation", "test")}
        means = {part: cluster(x[part].numpy(), settings.count, seed) for part in ("validation", "test")}
        rows += [row_of(key, grid, "slots", slots), row_of(key, grid, "k-means", means)]
    for grid in parts["train"].truth:
        blocks = cut_blocks(*grid.shape, settings.count)
        groups = {part: np.broadcast_to(blocks, parts[part].truth[grid][0].shape[:-1]) for part in PARTS}
        rows.append(row_of(grid_key(BLOCKS, grid), grid, BLOCKS, groups))
    return rows
