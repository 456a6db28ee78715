"""Masks from text: a small head on frozen features finds the one of two objects that an expression names."""

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
from vidgen.interfaces import TextEncoder
from vidgen.metrics.j_and_f import region_similarity
from vidgen.representations.baselines import RANDOM
from vidgen.representations.dense.bilinear import BilinearRidge, apply_bilinear
from vidgen.representations.dense.grids import EXACT, FeatureMaps, Grid, grid_key, inside, parse_grid_key
from vidgen.representations.dense.pca import Reduction, fit_reduction, fit_reductions
from vidgen.representations.dense.results import describe
from vidgen.representations.dense.tracking import masks_to_cells
from vidgen.representations.probes.metrics import Metric, bootstrap_interval, share

CHANNELS, TEXT = 64, 16  # that are kept of features and of pooled text
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1)
LIMITS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)  # from which on a cell is said to be the object's

# Who is told the expression: the denoiser, as its prompt, and the head.
TOLD: dict[str, tuple[bool, bool]] = {
    "both": (True, True),
    "head": (False, True),
    "prompt": (True, False),
    "none": (False, False),
}


def name_object(thing: ObjectLabels) -> str:
    return f"the {thing.colour} {thing.shape}"


def are_told_apart(labels: ClipLabels) -> bool:
    """Whether there are two objects, and what is said of one is not true of the other."""
    return len(labels.objects) == 2 and len({name_object(thing) for thing in labels.objects}) == 2


def read_expressions(encode: TextEncoder) -> dict[str, Float[Tensor, " k"]]:
    """The pooled tokens of all that can be said, turned to their principal axes."""
    said = [f"the {colour} {shape}" for colour, shape in product(COLOURS, SHAPES)]
    with torch.no_grad():
        pooled = encode(said).pooled().float().cpu()
    return dict(zip(said, fit_reduction(pooled, TEXT)(pooled), strict=True))


def check_text(model: Any) -> None:
    if getattr(model, "transformer", None) is None or getattr(model, "text_encoder", None) is None:
        raise VidgenError(
            f"the task 'expressions' needs a text-to-video denoiser, and {type(model).__name__} has none; "
            "give a pipeline, or leave it out of --tasks"
        )


@dataclass(frozen=True, kw_only=True)
class Told:
    """A batch of clips of two objects. maps: features with no prompt, and with the expression of either object."""

    maps: tuple[dict[str, FeatureMaps], dict[str, FeatureMaps], dict[str, FeatureMaps]]
    labels: Sequence[ClipLabels]

    def features(self, key: str, prompted: bool) -> Float[Tensor, "rb t h w c"]:
        """Of all clips for the first object, and of all for the second."""
        return torch.cat([self.maps[1 + role if prompted else 0][key].x for role in range(2)])

    def texts(self, said: Mapping[str, Tensor]) -> Float[Tensor, "rb k"]:
        return torch.stack([said[name_object(each.objects[role])] for role in range(2) for each in self.labels])

    def shares(self, grid: Grid) -> Float[Tensor, "b t h w 2"]:
        """Of either object in every cell."""
        return masks_to_cells(self.labels, grid)[..., 1:]


# Measures


def overlap(truth: Bool[np.ndarray, "b t h w o"], said: Bool[np.ndarray, "b t h w r"]) -> Float[np.ndarray, "b r o"]:
    """J of what was said to be object r with what is object o, the mean over frames."""
    masks = rearrange(said, "b t h w r -> b t r 1 h w"), rearrange(truth, "b t h w o -> b t 1 o h w")
    return region_similarity(*masks).mean(1)


def count_mean(values: Float[np.ndarray, "b r"]) -> Float[np.ndarray, "b 2"]:
    return np.stack([values.mean(1), np.ones(len(values))], axis=1)


def count_named(truth: np.ndarray, said: np.ndarray) -> Float[np.ndarray, "b 2"]:
    return count_mean(np.diagonal(overlap(truth, said), axis1=1, axis2=2))


def count_wrong(truth: np.ndarray, said: np.ndarray) -> Float[np.ndarray, "b 2"]:
    """As `count_named`, had the expressions been swapped."""
    return count_named(truth, said[..., ::-1])


def count_picked(truth: np.ndarray, said: np.ndarray) -> Float[np.ndarray, "b 2"]:
    """Whether it overlaps more with the named object than with the other; a half where neither is more."""
    j = overlap(truth, said)
    named, other = np.diagonal(j, axis1=1, axis2=2), np.diagonal(j[..., ::-1], axis1=1, axis2=2)
    return count_mean((named > other) + 0.5 * (named == other))


IOU = Metric(name="iou", count=count_named, value=share)
WRONG = Metric(name="wrong_iou", count=count_wrong, value=share)
PICKED = Metric(name="accuracy", count=count_picked, value=share)  # by name, so that its interval is never of no width


# The probe


class Head:
    """One way of being told on one map: fitted on batches, chosen on others, tested on yet others."""

    def __init__(self, key: str, told: str, reduction: Reduction, said: Mapping[str, Tensor]) -> None:
        self.key, (self.prompted, self.reads), self.told = key, TOLD[told], told
        self.reduction, self.said = reduction, said
        text = len(next(iter(said.values()))) if self.reads else 0
        self.ridge = BilinearRidge(reduction.axes.shape[1], text)
        self.solved: dict[float, Tensor] = {}
        self.tried: dict[tuple[float, float], list[np.ndarray]] = {}
        self.tested: dict[Metric, list[np.ndarray]] = {}

    def _given(self, batch: Told) -> tuple[Float[Tensor, "rb l c"], Float[Tensor, "rb k"]]:
        x = rearrange(self.reduction(batch.features(self.key, self.prompted)), "n t h w c -> n (t h w) c")
        return x, batch.texts(self.said) if self.reads else x.new_zeros(len(x), 0)

    def fit(self, batch: Told, shares: Float[Tensor, "b t h w 2"]) -> None:
        self.ridge.add(*self._given(batch), rearrange(shares, "b t h w r -> (r b) (t h w)"))

    def _find(self, batch: Told, penalty: float) -> Float[np.ndarray, "b t h w r"]:
        if penalty not in self.solved:
            self.solved[penalty] = self.ridge.solve(penalty)
        found = apply_bilinear(self.solved[penalty], *self._given(batch))
        t, h, w = batch.maps[0][self.key].x.shape[1:4]
        return rearrange(found, "(r b) (t h w) -> b t h w r", r=2, t=t, h=h, w=w).numpy()

    def try_settings(self, batch: Told, truth: Bool[np.ndarray, "b t h w 2"]) -> None:
        for penalty in PENALTIES:
            found = self._find(batch, penalty)
            for limit in LIMITS:
                counts = count_named(truth, inside(found, limit))
                self.tried.setdefault((penalty, limit), []).append(counts)

    def choose(self) -> None:
        """The setting that is best on what was tried; what the others needed is let go."""
        scores = {setting: IOU(np.concatenate(counts)) for setting, counts in self.tried.items()}
        self.choice = max(scores, key=scores.__getitem__)
        self.validation = scores[self.choice]
        self.solved, self.ridge = {self.choice[0]: self.solved[self.choice[0]]}, None

    def test(self, batch: Told, truth: Bool[np.ndarray, "b t h w 2"]) -> None:
        said = inside(self._find(batch, self.choice[0]), self.choice[1])
        for metric in (IOU, WRONG, PICKED):
            self.tested.setdefault(metric, []).append(metric.count(truth, said))


def ground(
    told_of: Callable[[str], Iterator[Told]], encoders: Mapping[str, TextEncoder], seed: int
) -> list[dict[str, Any]]:
    """Rows of heads that are fitted, chosen by J on validation, and tested. encoders: by the prefix of keys; those of
    pixels have the first."""
    texts = {prefix: read_expressions(encode) for prefix, encode in encoders.items()}
    reductions = fit_reductions((told.maps[0] for told in told_of("train")), CHANNELS)
    heads = [
        Head(key, told, reduction, texts[RANDOM if key.startswith(RANDOM) else ""])
        for key, reduction in reductions.items()
        for told, (prompted, _) in TOLD.items()
        if not prompted or parse_grid_key(key)[1] is not None  # a tokenizer hears no prompt
    ]
    exact: dict[Grid, dict[str, list[np.ndarray]]] = {}
    for part in ("train", "validation", "test"):
        for batch in told_of(part):
            shares = {one.grid: batch.shares(one.grid) for one in batch.maps[0].values()}
            truth = {grid: inside(each.numpy()) for grid, each in shares.items()}
            for head in heads:
                grid = batch.maps[0][head.key].grid
                if part == "train":
                    head.fit(batch, shares[grid])
                elif part == "validation":
                    head.try_settings(batch, truth[grid])
                else:
                    head.test(batch, truth[grid])
            for grid, masks in truth.items():
                exact.setdefault(grid, {}).setdefault(part, []).append(masks)
        if part == "validation":
            for head in heads:
                head.choose()
    grids = {key: one.grid for key, one in batch.maps[0].items()}
    return [row_of(head, grids[head.key], seed) for head in heads] + [
        row_of_both(*each, seed) for each in exact.items()
    ]


def row_of(head: Head, grid: Grid, seed: int) -> dict[str, Any]:
    counts = {metric: np.concatenate(parts) for metric, parts in head.tested.items()}
    choice = dict(zip(("penalty", "limit"), head.choice, strict=True))
    kind = "bilinear" if head.reads else "linear"
    return describe_counts(head.key, grid, counts, head.told, kind, head.validation, choice, seed)


def row_of_both(grid: Grid, masks: Mapping[str, Sequence[np.ndarray]], seed: int) -> dict[str, Any]:
    """What it comes to to find both objects exactly, and not to know which of them is meant."""
    truth = {part: np.concatenate(batches) for part, batches in masks.items()}
    said = {part: repeat(each.any(-1), "b t h w -> b t h w r", r=2) for part, each in truth.items()}
    counts = {metric: metric.count(truth["test"], said["test"]) for metric in (IOU, WRONG, PICKED)}
    validation = IOU(IOU.count(truth["validation"], said["validation"]))
    return describe_counts(grid_key(EXACT, grid), grid, counts, "none", "exact", validation, None, seed)


def describe_counts(
    key: str,
    grid: Grid,
    counts: Mapping[Metric, np.ndarray],
    told: str,
    kind: str,
    validation: float,
    choice: Any,
    seed: int,
) -> dict[str, Any]:
    clips = np.arange(len(counts[IOU]))
    picked = bootstrap_interval(PICKED, counts[PICKED], clips, seed)
    return describe(
        "expressions", key, grid, kind=kind, metric=IOU.name, validation=validation, test=IOU(counts[IOU]),
        ci=bootstrap_interval(IOU, counts[IOU], clips, seed), clips=len(clips), choice=choice, baseline=told == "none",
        others={
            "told": told, "wrong_iou": WRONG(counts[WRONG]), "picked": PICKED(counts[PICKED]), "picked_ci": list(picked)
        },
    )  # fmt: skip
