"""Semantic segmentation: a linear map from single cells to what is in them, without their neighbors or other frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int

from vidgen.data.shapes.labels import COLOURS, SHAPES, ClipLabels
from vidgen.data.shapes.masks import render_masks
from vidgen.representations.dense.grids import EXACT, PARTS, CollectedPart, Grid, ReadPart, collect, grid_key
from vidgen.representations.dense.results import counted_row
from vidgen.representations.probes.estimators import make_linear
from vidgen.representations.probes.metrics import Metric

# What a pixel can be of, besides background.
CLASS_SETS: dict[str, tuple[str, ...]] = {"object": ("object",), "shape": SHAPES, "colour": tuple(COLOURS)}
PENALTIES = (1e-3, 0.1, 10.0)  # inverse ones, as of the linear probe


def mean_overlap(sums: Float[np.ndarray, "*draws s"]) -> Float[np.ndarray, "*draws"]:
    """Return the mean of intersection over union of the classes that occur."""
    both, either = np.split(sums, 2, axis=-1)
    each = np.where(either > 0, both / np.maximum(either, 1), np.nan)
    return np.nanmean(each, axis=-1)


def count_overlap(truth: Int[np.ndarray, "n ..."], predictions: Int[np.ndarray, "n ..."], classes: int) -> np.ndarray:
    """Return of every clip the pixels of the intersection and of the union of each class, (n, 2 classes)."""
    ks = range(classes)
    axes = tuple(range(1, truth.ndim))
    both = [((truth == k) & (predictions == k)).sum(axes) for k in ks]
    either = [((truth == k) | (predictions == k)).sum(axes) for k in ks]
    return np.stack([*both, *either], axis=1).astype(np.float64)


def true_shares(clips: Sequence[ClipLabels], grid: Grid, classes: str) -> Float[np.ndarray, "b k t H W"]:
    """Return the share of every pixel that is background, and each of the classes."""
    names = CLASS_SETS[classes]
    shares = np.zeros((len(clips), 1 + len(names), len(grid.frames), *grid.size), np.float32)
    for clip, labels in zip(shares, clips, strict=True):
        masks = render_masks(labels, *grid.size, grid.frames)
        clip[0] = 1 - masks.sum(0)
        for thing, mask in zip(labels.objects, masks, strict=True):
            clip[1 + (0 if classes == "object" else names.index(getattr(thing, classes)))] += mask
    return shares


def true_cells(
    clips: Sequence[ClipLabels], grid: Grid, classes: str
) -> tuple[Float[np.ndarray, "b t h w k"], Int[np.ndarray, "b t H W"]]:
    """Return the shares of every cell, and the class of every pixel."""
    shares = true_shares(clips, grid, classes)
    cells = grid.to_cells(torch.from_numpy(shares))
    return rearrange(cells, "b k t h w -> b t h w k").numpy(), shares.argmax(1)


def segmentation_rows(read_part: ReadPart, classes: str, seed: int) -> list[dict[str, Any]]:
    """Return rows of logistic regressions on standardized cells, their penalty chosen on validation by mean pixel IoU.

    classes: one of `CLASS_SETS`.
    """
    parts = {part: collect(read_part(part), partial(true_cells, classes=classes)) for part in PARTS}
    num_classes = 1 + len(CLASS_SETS[classes])
    metric = Metric(name="miou", count=partial(count_overlap, classes=num_classes), value=mean_overlap)

    def counts_of(part: str, grid: Grid, shares: Iterable[np.ndarray]) -> Float[np.ndarray, "m s"]:
        return np.concatenate(
            [metric.count(truth[None], to_classes(cells, grid)[None])
             for truth, cells in zip(parts[part].truth[grid][1], shares, strict=True)]
        )  # fmt: skip

    rows = []
    for key, grid in parts["train"].grids.items():
        fitted = [fit_cells(parts["train"], key, penalty, seed) for penalty in PENALTIES]
        scores = [metric(counts_of("validation", grid, map(predict, parts["validation"].x[key]))) for predict in fitted]
        best = int(np.argmax(scores))
        counts = counts_of("test", grid, map(fitted[best], parts["test"].x[key]))
        scored = {"kind": "linear", "validation": scores[best], "choice": PENALTIES[best], "classes": classes}
        rows.append(counted_row("segmentation", key, grid, metric, counts, seed, **scored))
    for grid in parts["train"].truth:
        validation, counts = (counts_of(part, grid, parts[part].truth[grid][0]) for part in ("validation", "test"))
        scored = {"kind": "linear", "validation": metric(validation), "classes": classes}
        rows.append(counted_row("segmentation", grid_key(EXACT, grid), grid, metric, counts, seed, **scored))
    return rows


def to_classes(shares: Float[np.ndarray, "t h w k"], grid: Grid) -> Int[np.ndarray, "t H W"]:
    """Return the class with the largest share of every pixel, from shares of cells."""
    maps = rearrange(torch.from_numpy(shares), "t h w k -> (t k) h w")
    return rearrange(grid.to_pixels(maps), "(t k) h w -> t k h w", k=shares.shape[-1]).argmax(1).numpy()


def fit_cells(train: CollectedPart, key: str, penalty: float, seed: int) -> Callable[[torch.Tensor], np.ndarray]:
    """Return a function from features (t, h, w, c) to the probability of each class, fitted on the largest of cells."""
    shares = train.truth[train.grids[key]][0]
    X, y = rearrange(train.x[key], "m t h w c -> (m t h w) c").numpy(), shares.argmax(-1).ravel()
    fitted = make_linear(penalty, "class", seed).fit(X, y)

    def predict(x: Float[torch.Tensor, "t h w c"]) -> Float[np.ndarray, "t h w k"]:
        probabilities = np.zeros((*x.shape[:-1], shares.shape[-1]))
        probabilities[..., fitted.classes_] = fitted.predict_proba(x.flatten(0, 2).numpy()).reshape(*x.shape[:-1], -1)
        return probabilities

    return predict
