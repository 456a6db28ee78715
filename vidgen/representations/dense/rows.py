"""Dense probes of a model on the synthetic world, as rows of plain data: chosen on validation, reported on test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import product
from math import inf
from typing import Any

import numpy as np
import torch

from vidgen.data.shapes import ClipLabels
from vidgen.errors import VidgenError
from vidgen.metrics.intervals import mean_interval
from vidgen.representations.baselines import RANDOM, random_like
from vidgen.representations.dense.grids import EXACT, STILL, FeatureMaps, Grid, grid_key
from vidgen.representations.dense.label_propagation import Affinity, propagate
from vidgen.representations.dense.object_discovery import group
from vidgen.representations.dense.reading import Reader
from vidgen.representations.dense.referring_expressions import are_told_apart, check_text, ground
from vidgen.representations.dense.results import describe
from vidgen.representations.dense.scenes import Scenes
from vidgen.representations.dense.segmentation import SEGMENTED, segment
from vidgen.representations.dense.slots import SlotSettings
from vidgen.representations.dense.tracking import FOLLOWED, Cells, Scores
from vidgen.representations.extract import default_window
from vidgen.representations.extractor import FeatureExtractor

USUAL = (*FOLLOWED, "segmentation")
TASKS = (*USUAL, "expressions", "slots")
SETTINGS = tuple(Affinity(top_k=k, temperature=t, radius=r) for k, t, r in product((1, 5, 10), (0.05, 0.2), (None, 2)))
SLOTS = SlotSettings()


def dense_rows(
    model: Any,
    tasks: Sequence[str] = USUAL,
    *,
    layers: Sequence[str] = ("tokenizer.latents",),
    noise_levels: Sequence[float] = (0.1,),
    settings: Sequence[Affinity] = SETTINGS,
    classes: str = "colour",
    clips: int = 64,
    num_frames: int | None = None,
    size: int | tuple[int, int] | None = None,
    max_objects: int = 2,
    slots: SlotSettings = SLOTS,
    batch_size: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    found: Callable[[Found], None] | None = None,
) -> list[dict[str, Any]]:
    """A row for every task and layer (at every noise level), and for what it is held against: the same with random
    weights, raw pixels cut into the same cells, the first frame kept still, and the truth on the same cells ("exact"),
    which shows what is lost to their size.

    tasks: "masks", "points" and "boxes" are given in the first frame and followed by affinity (see `propagate`), with
    the one of `settings` that is best on validation; "segmentation" is a linear map from cells to `classes`;
    "expressions" are masks of the object that a text names (see `ground`) and "slots" groups found without labels (see
    `group`), both in clips of two objects, whatever `max_objects`.
    clips: held-out clips to report on; as many to fit on, and half as many to choose on. num_frames, size: as in
    `extract_source`. found: hears of all that is followed in the first held-out clips, to be looked at.
    A row has task, layer, noise_level, pool, kind, metric, validation, test, ci (95%, over clips), baseline, stride,
    choice, and other measures by name. Raises VidgenError for a task, layer or size that is not to be had,
    and for expressions of a model without a text-to-video denoiser.
    """
    if unknown := [task for task in tasks if task not in TASKS]:
        raise VidgenError(f"dense task {unknown[0]!r} is unknown; choose some of {', '.join(TASKS)}")
    if classes not in SEGMENTED:
        raise VidgenError(f"classes {classes!r} are unknown; choose one of {', '.join(SEGMENTED)}")
    if "expressions" in tasks:
        check_text(model)
    window = default_window(model, num_frames, size, None)
    scenes = Scenes(
        num_frames=window["num_frames"], height=window["size"][0], width=window["size"][1],
        fps=round(window["fps"] or 8), counts={"train": clips, "validation": max(2, clips // 2), "test": clips},
        max_objects=max_objects, batch_size=batch_size,
    )  # fmt: skip
    twin = random_like(model, seed)
    reader = Reader(
        extractors=extractors_of(model, twin, layers, noise_levels, seed),
        prompted=extractors_of(model, twin, [layer for layer in layers if layer.startswith("dit.")], noise_levels, seed),
        total=sum(scenes.counts[part] for parts in parts_of(tasks) for part in parts), progress=progress,
    )  # fmt: skip
    rows = follow(partial(reader.read_moving, scenes), [task for task in tasks if task in FOLLOWED], settings, found)
    if "segmentation" in tasks:
        rows += segment(partial(reader.read_moving, scenes), classes, seed)
    pairs = replace(scenes, max_objects=2, keep=are_told_apart)
    if "expressions" in tasks:
        encoders = {"": model.text_encoder, RANDOM: twin.text_encoder}
        rows += ground(partial(reader.read_told, pairs), encoders, seed)
    if "slots" in tasks:
        rows += group(partial(reader.read, pairs), slots, seed)
    return sorted(rows, key=lambda row: (tasks.index(row["task"]), row["baseline"]))


def extractors_of(
    model: Any, twin: Any, layers: Sequence[str], noise_levels: Sequence[float], seed: int
) -> dict[str, FeatureExtractor]:
    """Of the model, and of the same with random weights; none for no layers."""
    asked = {"layers": list(layers), "noise_levels": list(noise_levels), "pool": "none", "seed": seed}
    return {prefix: FeatureExtractor(one, **asked) for prefix, one in (("", model), (RANDOM, twin)) if layers}


def parts_of(tasks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The parts that are read, once for what is followed and once for every other task."""
    if any(task in FOLLOWED for task in tasks):
        yield "validation", "test"
    for task in tasks:
        if task not in FOLLOWED:
            yield "train", "validation", "test"


@dataclass(frozen=True, kw_only=True)
class Found:
    """Values of cells in every frame of a batch of clips, and how they were carried there (None: not by features)."""

    task: str
    key: str
    cells: Cells
    labels: Sequence[ClipLabels]
    grid: Grid
    how: Affinity | None = None

    @cached_property
    def scores(self) -> Scores:
        return FOLLOWED[self.task].score(self.cells, self.labels, self.grid)


Batches = Callable[[str], Iterator[tuple[dict[str, FeatureMaps], list[ClipLabels]]]]
Choice = tuple[Affinity | None, float]  # and its score on validation


def follow(
    maps_of: Batches,
    tasks: Sequence[str],
    settings: Sequence[Affinity],
    found: Callable[[Found], None] | None = None,
) -> list[dict[str, Any]]:
    """Rows of what is followed: every setting on validation, the best of them (the first of equals) on test."""
    if not tasks:
        return []
    chosen = choose(maps_of, tasks, settings)
    tested: dict[tuple[str, str], list[Scores]] = {}
    grids: dict[str, Grid] = {}
    for maps, labels in maps_of("test"):
        wanted = {key: [(task, chosen[task, key][0]) for task in tasks] for key in maps}
        for one in carry(maps, labels, tasks, wanted):
            if found is not None and (one.task, one.key) not in tested:
                found(one)
            tested.setdefault((one.task, one.key), []).append(one.scores)
            grids[one.key] = one.grid
    return [row_of(task, key, parts, chosen[task, key], grids[key]) for (task, key), parts in tested.items()]


def choose(maps_of: Batches, tasks: Sequence[str], settings: Sequence[Affinity]) -> dict[tuple[str, str], Choice]:
    """By task and key."""
    tried: dict[tuple[str, str, Affinity | None], list[Scores]] = {}
    for maps, labels in maps_of("validation"):
        wanted = {key: [(task, how) for how in settings for task in tasks] for key in maps}
        for one in carry(maps, labels, tasks, wanted):
            tried.setdefault((one.task, one.key, one.how), []).append(one.scores)
    chosen: dict[tuple[str, str], Choice] = {}
    for (task, key, how), parts in tried.items():
        kind = FOLLOWED[task]
        score = float(np.concatenate([part[kind.metric] for part in parts]).mean())
        best = chosen.get((task, key), (None, -inf if kind.more else inf))[1]
        if (score > best) if kind.more else (score < best):
            chosen[task, key] = how, score
    return chosen


def carry(
    maps: Mapping[str, FeatureMaps],
    labels: Sequence[ClipLabels],
    tasks: Sequence[str],
    wanted: Mapping[str, Sequence[tuple[str, Affinity]]],
) -> Iterator[Found]:
    """What is found in a batch of clips, as `wanted` by key; and what needs no features."""
    grids = dict.fromkeys(one.grid for one in maps.values())
    exact = {(task, grid): FOLLOWED[task].to_cells(labels, grid) for grid in grids for task in tasks}
    for key, one in maps.items():
        for how in dict.fromkeys(how for _, how in wanted[key]):
            # what has a setting in common goes along the same affinities, once
            together = [task for task, other in wanted[key] if other == how]
            first = [exact[task, one.grid][:, 0] for task in together]
            parts = propagate(one.x, torch.cat(first, dim=-1), how).split([part.shape[-1] for part in first], dim=-1)
            for task, cells in zip(together, parts, strict=True):
                yield Found(task=task, key=key, cells=cells, labels=labels, grid=one.grid, how=how)
    for (task, grid), cells in exact.items():
        still = cells[:, :1].expand_as(cells)
        yield Found(task=task, key=grid_key(STILL, grid), cells=still, labels=labels, grid=grid)
        yield Found(task=task, key=grid_key(EXACT, grid), cells=cells, labels=labels, grid=grid)


def row_of(task: str, key: str, parts: Sequence[Scores], choice: Choice, grid: Grid) -> dict[str, Any]:
    metric = FOLLOWED[task].metric
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    mean = mean_interval(scores[metric], (0.0, 1.0 if FOLLOWED[task].more else inf))
    return describe(
        task, key, grid, kind="affinity", metric=metric, validation=choice[1], test=mean.mean,
        ci=mean.interval or (mean.mean, mean.mean), clips=mean.n,
        choice=None if choice[0] is None else asdict(choice[0]),
        others={name: float(values.mean()) for name, values in scores.items() if name != metric},
    )  # fmt: skip
