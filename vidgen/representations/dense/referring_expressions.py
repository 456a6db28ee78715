"""Referring expressions: a small head on frozen features segments the one of two objects that a text names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.data.shapes.labels import COLOURS, SHAPES, ClipLabels, ObjectLabels
from vidgen.errors import VidgenError
from vidgen.interfaces import Pipeline, TextEncoder, Tokenizer
from vidgen.metrics.j_and_f import region_similarity
from vidgen.representations.baselines import RANDOM
from vidgen.representations.dense.bilinear import BilinearRidge, apply_bilinear
from vidgen.representations.dense.grids import EXACT, PARTS, FeatureMaps, Grid, grid_key, inside, parse_grid_key
from vidgen.representations.dense.pca import Reduction, fit_reduction, fit_reductions
from vidgen.representations.dense.results import counted_row
from vidgen.representations.dense.tracked_labels import masks_to_cells
from vidgen.representations.probes.metrics import Metric, bootstrap_interval, count_mean, ratio_of_sums

CHANNELS, TEXT_CHANNELS = 64, 16  # of reduced features and of reduced text
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1)
LIMITS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)  # output from which on a cell counts as the object's


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What gets the expression: the denoiser, as its prompt, and the head."""

    denoiser: bool
    head: bool


CONDITIONINGS = {
    "both": Conditioning(denoiser=True, head=True),
    "head": Conditioning(denoiser=False, head=True),
    "prompt": Conditioning(denoiser=True, head=False),
    "none": Conditioning(denoiser=False, head=False),
}


def express(thing: ObjectLabels) -> str:
    """Return the expression that names an object."""
    return f"the {thing.colour} {thing.shape}"


def are_distinguishable(labels: ClipLabels) -> bool:
    """Return whether a clip has two objects, and the expression of one is not that of the other."""
    return len(labels.objects) == 2 and len({express(thing) for thing in labels.objects}) == 2


def encode_expressions(encode: TextEncoder) -> dict[str, Float[Tensor, " k"]]:
    """Return the pooled tokens of all expressions that there are, turned to their principal axes."""
    expressions = [f"the {colour} {shape}" for colour, shape in product(COLOURS, SHAPES)]
    with torch.no_grad():
        pooled = encode(expressions).pooled().float().cpu()
    return dict(zip(expressions, fit_reduction(pooled, TEXT_CHANNELS)(pooled), strict=True))


def check_text(model: Pipeline | Tokenizer) -> None:
    """Raise VidgenError for a model that is no pipeline with a text encoder."""
    if not isinstance(model, Pipeline):
        raise VidgenError(
            f"the task 'expressions' needs a text-to-video denoiser, and {type(model).__name__} has none; "
            "give a pipeline, or leave it out of --tasks"
        )


@dataclass(frozen=True, kw_only=True)
class ExpressionBatch:
    """A batch of clips of two objects. maps: features with no prompt, and with the expression of either object."""

    maps: tuple[dict[str, FeatureMaps], dict[str, FeatureMaps], dict[str, FeatureMaps]]
    labels: Sequence[ClipLabels]

    def features(self, key: str, prompted: bool) -> Float[Tensor, "rb t h w c"]:
        """Return the features of all clips for the first object, and of all for the second."""
        return torch.cat([self.maps[1 + role if prompted else 0][key].x for role in range(2)])

    def texts(self, encoded: Mapping[str, Tensor]) -> Float[Tensor, "rb k"]:
        """Return the expressions' encodings, in the order of `features`."""
        return torch.stack([encoded[express(each.objects[role])] for role in range(2) for each in self.labels])

    def shares(self, grid: Grid) -> Float[Tensor, "b t h w 2"]:
        """Return the share of every cell that is either object's."""
        return masks_to_cells(self.labels, grid)[..., 1:]


Masks = Bool[np.ndarray, "b t h w o"]


def overlap(truth: Masks, predictions: Masks) -> Float[np.ndarray, "b r o"]:
    """Return J of the mask that is predicted for object r with object o, the mean over frames."""
    masks = rearrange(predictions, "b t h w r -> b t r 1 h w"), rearrange(truth, "b t h w o -> b t 1 o h w")
    return region_similarity(*masks).mean(1)


def count_iou(truth: Masks, predictions: Masks) -> Float[np.ndarray, "b 2"]:
    """Return the counts of J with the named object."""
    return count_mean(np.diagonal(overlap(truth, predictions), axis1=1, axis2=2).mean(1))


def count_wrong_iou(truth: Masks, predictions: Masks) -> Float[np.ndarray, "b 2"]:
    """Return the counts of J with the other object."""
    return count_iou(truth, predictions[..., ::-1])


def count_picked(truth: Masks, predictions: Masks) -> Float[np.ndarray, "b 2"]:
    """Return the counts of masks that overlap more with the named object than with the other; a half for equals."""
    j = overlap(truth, predictions)
    named, other = np.diagonal(j, axis1=1, axis2=2), np.diagonal(j[..., ::-1], axis1=1, axis2=2)
    return count_mean(((named > other) + 0.5 * (named == other)).mean(1))


IOU = Metric(name="iou", count=count_iou, value=ratio_of_sums)
WRONG_IOU = Metric(name="wrong_iou", count=count_wrong_iou, value=ratio_of_sums)
# called accuracy, so that its interval is never of no width
PICKED = Metric(name="accuracy", count=count_picked, value=ratio_of_sums)
MASK_METRICS = (IOU, WRONG_IOU, PICKED)
Counts = dict[Metric, list[np.ndarray]]


class GroundingHead:
    """A linear or bilinear map of one feature, under one conditioning: fitted on batches, its settings chosen on
    others, and tested on yet others."""

    def __init__(self, key: str, name: str, reduction: Reduction, encoded: Mapping[str, Tensor]) -> None:
        self.key, self.name, self.conditioning = key, name, CONDITIONINGS[name]
        self.reduction, self.encoded = reduction, encoded
        text = len(next(iter(encoded.values()))) if self.conditioning.head else 0
        self.ridge = BilinearRidge(reduction.axes.shape[1], text)
        self.weights: dict[float, Tensor] = {}
        self.tried: dict[tuple[float, float], list[np.ndarray]] = {}
        self.tested: Counts = {metric: [] for metric in MASK_METRICS}

    def _inputs(self, batch: ExpressionBatch) -> tuple[Float[Tensor, "rb l c"], Float[Tensor, "rb k"]]:
        x = self.reduction(batch.features(self.key, self.conditioning.denoiser))
        x = rearrange(x, "n t h w c -> n (t h w) c")
        return x, batch.texts(self.encoded) if self.conditioning.head else x.new_zeros(len(x), 0)

    def fit(self, batch: ExpressionBatch, shares: Float[Tensor, "b t h w 2"]) -> None:
        """Take in a batch to fit on."""
        self.ridge.add(*self._inputs(batch), rearrange(shares, "b t h w r -> (r b) (t h w)"))

    def _predict(self, batch: ExpressionBatch, penalty: float) -> Float[np.ndarray, "b t h w r"]:
        if penalty not in self.weights:
            self.weights[penalty] = self.ridge.solve(penalty)
        outputs = apply_bilinear(self.weights[penalty], *self._inputs(batch))
        t, h, w = batch.maps[0][self.key].x.shape[1:4]
        return rearrange(outputs, "(r b) (t h w) -> b t h w r", r=2, t=t, h=h, w=w).numpy()

    def validate(self, batch: ExpressionBatch, truth: Masks) -> None:
        """Score every setting on a batch."""
        for penalty in PENALTIES:
            outputs = self._predict(batch, penalty)
            for limit in LIMITS:
                self.tried.setdefault((penalty, limit), []).append(count_iou(truth, inside(outputs, limit)))

    def choose(self) -> None:
        """Choose the setting that is best on what was validated, and free what the others needed."""
        scores = {setting: IOU(np.concatenate(counts)) for setting, counts in self.tried.items()}
        self.choice = max(scores, key=scores.__getitem__)
        self.validation = scores[self.choice]
        self.weights, self.ridge = {self.choice[0]: self.weights[self.choice[0]]}, None

    def test(self, batch: ExpressionBatch, truth: Masks) -> None:
        """Score the chosen setting on a batch."""
        masks = inside(self._predict(batch, self.choice[0]), self.choice[1])
        for metric, counts in self.tested.items():
            counts.append(metric.count(truth, masks))

    def row(self, grid: Grid, seed: int) -> dict[str, Any]:
        """Return the row of the head's scores."""
        choice = dict(zip(("penalty", "limit"), self.choice, strict=True))
        kind = "bilinear" if self.conditioning.head else "linear"
        return row_of(self.key, grid, self.tested, self.name, kind, self.validation, seed, choice)


def referring_expression_rows(
    read_part: Callable[[str], Iterator[ExpressionBatch]], encoders: Mapping[str, TextEncoder], seed: int
) -> list[dict[str, Any]]:
    """Return rows of heads that are fitted, chosen by J on validation, and tested.

    encoders: by the prefix of keys; those of pixels have the first.
    """
    encoded = {prefix: encode_expressions(encode) for prefix, encode in encoders.items()}
    reductions = fit_reductions((batch.maps[0] for batch in read_part("train")), CHANNELS)
    heads = [
        GroundingHead(key, name, reduction, encoded[RANDOM if key.startswith(RANDOM) else ""])
        for key, reduction in reductions.items()
        for name, conditioning in CONDITIONINGS.items()
        if not conditioning.denoiser or parse_grid_key(key)[1] is not None  # a tokenizer has no prompt
    ]
    exact: dict[Grid, dict[str, Counts]] = {}
    for part in PARTS:
        for batch in read_part(part):
            grids = {key: one.grid for key, one in batch.maps[0].items()}
            shares = {grid: batch.shares(grid) for grid in dict.fromkeys(grids.values())}
            truth = {grid: inside(each.numpy()) for grid, each in shares.items()}
            for head in heads:
                grid = grids[head.key]
                if part == "train":
                    head.fit(batch, shares[grid])
                else:
                    (head.validate if part == "validation" else head.test)(batch, truth[grid])
            for grid, masks in truth.items():
                either = repeat(masks.any(-1), "b t h w -> b t h w r", r=2)
                counts = exact.setdefault(grid, {}).setdefault(part, {metric: [] for metric in MASK_METRICS})
                for metric in MASK_METRICS:
                    counts[metric].append(metric.count(masks, either))
        if part == "validation":
            for head in heads:
                head.choose()
    rows = [head.row(grids[head.key], seed) for head in heads]
    # the exact masks of both objects: what a head reaches that does not know which of them is named
    for grid, counts in exact.items():
        validation = IOU(np.concatenate(counts["validation"][IOU]))
        rows.append(row_of(grid_key(EXACT, grid), grid, counts["test"], "none", "exact", validation, seed))
    return rows


def row_of(
    key: str, grid: Grid, parts: Counts, name: str, kind: str, validation: float, seed: int, choice: Any = None
) -> dict[str, Any]:
    """Return a row of referring expressions.

    Args:
        key, grid: of the features.
        parts: counts of test clips by metric, batch by batch.
        name: of the conditioning.
        kind: of head.
        validation: J on validation.
        seed: of intervals.
        choice: what was chosen on validation.
    """
    counts = {metric: np.concatenate(batches) for metric, batches in parts.items()}
    picked_ci = bootstrap_interval(PICKED, counts[PICKED], np.arange(len(counts[PICKED])), seed)
    measures = {"wrong_iou": WRONG_IOU(counts[WRONG_IOU]), "picked": PICKED(counts[PICKED])}
    return counted_row(
        "expressions", key, grid, IOU, counts[IOU], seed, kind=kind, validation=validation, choice=choice,
        baseline=name == "none", told=name, picked_ci=picked_ci and list(picked_ci), **measures,
    )  # fmt: skip
