"""Tracking: masks, points and boxes of the first frame followed through a clip by label propagation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from math import inf
from typing import Any

import numpy as np
import torch

from vidgen.data.shapes import ClipLabels
from vidgen.metrics.intervals import mean_interval
from vidgen.representations.dense.grids import EXACT, STILL, FeatureMaps, Grid, ReadPart, grid_key
from vidgen.representations.dense.label_propagation import PropagationSettings, propagate_labels
from vidgen.representations.dense.results import dense_row
from vidgen.representations.dense.tracked_labels import TRACKED, Cells, Scores


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Labels of cells in every frame of a batch of clips, and how they were propagated (None: not by features)."""

    task: str
    key: str
    cells: Cells
    labels: Sequence[ClipLabels]
    grid: Grid
    settings: PropagationSettings | None = None

    @cached_property
    def scores(self) -> Scores:
        """The task's measures, a number a clip."""
        return TRACKED[self.task].score(self.cells, self.labels, self.grid)


Choice = tuple[PropagationSettings | None, float]  # and its score on validation


def tracking_rows(
    read_part: ReadPart,
    tasks: Sequence[str],
    settings: Sequence[PropagationSettings],
    on_tracks: Callable[[Tracks], None] | None = None,
) -> list[dict[str, Any]]:
    """Return rows of tracked labels: all settings on validation, the best of them (the first of equals) on test.

    on_tracks: called with the tracks of every task and key in the first test clips.
    """
    if not tasks:
        return []
    best_settings = choose_settings(read_part, tasks, settings)
    tested: dict[tuple[str, str], list[Scores]] = {}
    grids: dict[str, Grid] = {}
    for maps, labels in read_part("test"):
        requests = {key: [(task, best_settings[task, key][0]) for task in tasks] for key in maps}
        for tracks in track_batch(maps, labels, tasks, requests):
            if on_tracks is not None and (tracks.task, tracks.key) not in tested:
                on_tracks(tracks)
            tested.setdefault((tracks.task, tracks.key), []).append(tracks.scores)
            grids[tracks.key] = tracks.grid
    return [row_of(task, key, parts, best_settings[task, key], grids[key]) for (task, key), parts in tested.items()]


def choose_settings(
    read_part: ReadPart, tasks: Sequence[str], settings: Sequence[PropagationSettings]
) -> dict[tuple[str, str], Choice]:
    """Return the settings that are best on validation, by task and key."""
    tried: dict[tuple[str, str, PropagationSettings | None], list[Scores]] = {}
    for maps, labels in read_part("validation"):
        requests = {key: [(task, each) for each in settings for task in tasks] for key in maps}
        for tracks in track_batch(maps, labels, tasks, requests):
            tried.setdefault((tracks.task, tracks.key, tracks.settings), []).append(tracks.scores)
    best_settings: dict[tuple[str, str], Choice] = {}
    for (task, key, each), parts in tried.items():
        kind = TRACKED[task]
        score = float(np.concatenate([part[kind.metric] for part in parts]).mean())
        best = best_settings.get((task, key), (None, -inf if kind.higher_is_better else inf))[1]
        if (score > best) if kind.higher_is_better else (score < best):
            best_settings[task, key] = each, score
    return best_settings


def track_batch(
    maps: Mapping[str, FeatureMaps],
    labels: Sequence[ClipLabels],
    tasks: Sequence[str],
    requests: Mapping[str, Sequence[tuple[str, PropagationSettings]]],
) -> Iterator[Tracks]:
    """Yield the tracks of a batch of clips that `requests` names by key, and those that need no features: the first
    frame kept still, and the exact labels."""
    grids = dict.fromkeys(one.grid for one in maps.values())
    exact = {(task, grid): TRACKED[task].to_cells(labels, grid) for grid in grids for task in tasks}
    for key, one in maps.items():
        for settings in dict.fromkeys(settings for _, settings in requests[key]):
            # tasks with a setting in common are propagated along the same similarities, once
            together = [task for task, other in requests[key] if other == settings]
            first = [exact[task, one.grid][:, 0] for task in together]
            parts = propagate_labels(one.x, torch.cat(first, dim=-1), settings)
            parts = parts.split([part.shape[-1] for part in first], dim=-1)
            for task, cells in zip(together, parts, strict=True):
                yield Tracks(task=task, key=key, cells=cells, labels=labels, grid=one.grid, settings=settings)
    for (task, grid), cells in exact.items():
        still = cells[:, :1].expand_as(cells)
        yield Tracks(task=task, key=grid_key(STILL, grid), cells=still, labels=labels, grid=grid)
        yield Tracks(task=task, key=grid_key(EXACT, grid), cells=cells, labels=labels, grid=grid)


def row_of(task: str, key: str, parts: Sequence[Scores], choice: Choice, grid: Grid) -> dict[str, Any]:
    """Return the row of a task's scores on one map."""
    kind, (settings, validation) = TRACKED[task], choice
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    mean = mean_interval(scores[kind.metric], (0.0, 1.0 if kind.higher_is_better else inf))
    others = {name: float(values.mean()) for name, values in scores.items() if name != kind.metric}
    return dense_row(
        task, key, grid, kind="affinity", metric=kind.metric, validation=validation, test=mean.mean,
        ci=mean.interval or (mean.mean, mean.mean), clips=mean.n,
        choice=None if settings is None else asdict(settings), **others,
    )  # fmt: skip
