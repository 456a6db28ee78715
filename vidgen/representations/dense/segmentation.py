"""A linear map from single cells to what is in them: no neighbour is looked at, and nothing is followed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int

from vidgen.data.shapes.labels import COLOURS, SHAPES, ClipLabels
from vidgen.data.shapes.masks import render_masks
from vidgen.representations.dense.grids import EXACT, FeatureMaps, Grid, grid_key
from vidgen.representations.dense.results import describe
from vidgen.representations.probes.estimators import make_linear
from vidgen.representations.probes.metrics import Metric, bootstrap_interval

# What a pixel can be of, besides background.
SEGMENTED: dict[str, tuple[str, ...]] = {"object": ("object",), "shape": SHAPES, "colour": tuple(COLOURS)}
PENALTIES = (1e-3, 0.1, 10.0)  # inverse ones, as of the linear probe


def mean_overlap(sums: Float[np.ndarray, "*draws s"]) -> Float[np.ndarray, "*draws"]:
    """Mean over classes of intersection over union, of those that occur."""
    both, either = np.split(sums, 2, axis=-1)
    each = np.where(either > 0, both / np.maximum(either, 1), np.nan)
    return np.nanmean(each, axis=-1)


def count_overlap(truth: Int[np.ndarray, "n ..."], said: Int[np.ndarray, "n ..."], classes: int) -> np.ndarray:
    """Of every clip, pixels of the intersection and of the union of each class, (n, 2 classes)."""
    ks = range(classes)
    axes = tuple(range(1, truth.ndim))
    both = [((truth == k) & (said == k)).sum(axes) for k in ks]
    either = [((truth == k) | (said == k)).sum(axes) for k in ks]
    return np.stack([*both, *either], axis=1).astype(np.float64)


def true_shares(clips: Sequence[ClipLabels], grid: Grid, classes: str) -> Float[np.ndarray, "b k t H W"]:
    """Share of every pixel that is background, and each of the classes."""
    names = SEGMENTED[classes]
    shares = np.zeros((len(clips), 1 + len(names), len(grid.frames), *grid.size), np.float32)
    for clip, labels in zip(shares, clips, strict=True):
        masks = render_masks(labels, *grid.size, grid.frames)
        clip[0] = 1 - masks.sum(0)
        for thing, mask in zip(labels.objects, masks, strict=True):
            clip[1 + (0 if classes == "object" else names.index(getattr(thing, classes)))] += mask
    return shares


class Collected:
    """Features and exact shares of cells, and classes of pixels, of one map, batch by batch."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.X: list[Float[np.ndarray, "b n c"]] = []
        self.shares: list[Float[np.ndarray, "b n k"]] = []
        self.pixels: list[Int[np.ndarray, "b t H W"]] = []

    def add(self, x: Float[torch.Tensor, "b t h w c"], shares: Float[np.ndarray, "b k t H W"]) -> None:
        cells = self.grid.to_cells(torch.from_numpy(shares))
        self.X.append(rearrange(x, "b t h w c -> b (t h w) c").numpy())
        self.shares.append(rearrange(cells, "b k t h w -> b (t h w) k").numpy())
        self.pixels.append(shares.argmax(1))

    def counts(self, found: Sequence[Float[np.ndarray, "b n k"]], metric: Metric) -> Float[np.ndarray, "m s"]:
        """`metric` of every clip, of shares that were found of its cells: a pixel is of the class with the largest."""
        h, w = self.grid.shape
        counts = []
        for truth, cells in zip(self.pixels, found, strict=True):
            b, _, k = cells.shape
            maps = rearrange(torch.from_numpy(cells), "b (t h w) k -> (b t k) h w", h=h, w=w)
            grown = rearrange(self.grid.to_pixels(maps), "(b t k) h w -> b t k h w", b=b, k=k)
            counts.append(metric.count(truth, grown.argmax(2).numpy()))
        return np.concatenate(counts)


def segment(
    maps_of: Callable[[str], Iterator[tuple[dict[str, FeatureMaps], list[ClipLabels]]]], classes: str, seed: int
) -> list[dict[str, Any]]:
    """Rows of logistic regressions on standardized cells, the penalty chosen on validation by mean IoU of pixels."""
    parts: dict[str, dict[str, Collected]] = {}
    for part in ("train", "validation", "test"):
        held = parts.setdefault(part, {})
        for maps, labels in maps_of(part):
            shares = {grid: true_shares(labels, grid, classes) for grid in {one.grid for one in maps.values()}}
            for key, one in maps.items():
                held.setdefault(key, Collected(one.grid)).add(one.x, shares[one.grid])
    count = 1 + len(SEGMENTED[classes])
    metric = Metric(name="miou", count=lambda truth, said: count_overlap(truth, said, count), value=mean_overlap)
    rows, grids = [], {}
    for key, train in parts["train"].items():
        validation, test = parts["validation"][key], parts["test"][key]
        tried = [fit_cells(train, penalty, seed) for penalty in PENALTIES]
        scores = [metric(validation.counts([say(x) for x in validation.X], metric)) for say in tried]
        best = int(np.argmax(scores))
        counts = test.counts([tried[best](x) for x in test.X], metric)
        rows.append(row_of(key, metric, counts, scores[best], PENALTIES[best], test.grid, classes, seed))
        grids[test.grid] = validation, test
    for grid, (validation, test) in grids.items():
        score, counts = metric(validation.counts(validation.shares, metric)), test.counts(test.shares, metric)
        rows.append(row_of(grid_key(EXACT, grid), metric, counts, score, None, grid, classes, seed))
    return rows


def fit_cells(train: Collected, penalty: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """From features (b, n, c) to the chance of each class (b, n, k), fitted on what cells hold most of."""
    k = train.shares[0].shape[-1]
    X = np.concatenate([rearrange(x, "b n c -> (b n) c") for x in train.X])
    y = np.concatenate([rearrange(shares.argmax(-1), "b n -> (b n)") for shares in train.shares])
    fitted = make_linear(penalty, "class", seed).fit(X, y)

    def say(x: Float[np.ndarray, "b n c"]) -> Float[np.ndarray, "b n k"]:
        found = np.zeros((*x.shape[:2], k))
        chances = fitted.predict_proba(rearrange(x, "b n c -> (b n) c"))
        found[..., fitted.classes_] = rearrange(chances, "(b n) k -> b n k", b=len(x))
        return found

    return say


def row_of(
    key: str,
    metric: Metric,
    counts: Float[np.ndarray, "m s"],
    validation: float,
    choice: float | None,
    grid: Grid,
    classes: str,
    seed: int,
) -> dict[str, Any]:
    return describe(
        "segmentation", key, grid, kind="linear", metric=metric.name, validation=validation, test=metric(counts),
        ci=bootstrap_interval(metric, counts, np.arange(len(counts)), seed), clips=len(counts), choice=choice,
        others={"classes": classes},
    )  # fmt: skip
