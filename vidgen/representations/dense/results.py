"""Results of dense probes as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidgen.representations.dense.grids import Grid, is_baseline, parse_grid_key
from vidgen.representations.probes.metrics import Metric, bootstrap_interval
from vidgen.representations.probes.results import result_row


def dense_row(
    task: str, key: str, grid: Grid, *, baseline: bool = False, choice: Any = None, **scores: Any
) -> dict[str, Any]:
    """Return a row of a dense task on the features `key`.

    Args:
        task: the task's name.
        key: of the features, or of what stands for them on the grid.
        grid: where the features' cells lie.
        baseline: says that the row is one whatever its key.
        choice: what was chosen on validation, as plain data.
        scores: kind, metric, validation, test, ci and clips, and other measures of the task.
    """
    layer, level = parse_grid_key(key)
    baseline = baseline or is_baseline(key)
    stride = list(grid.stride)
    return result_row(layer, level, pool="none", task=task, baseline=baseline, stride=stride, choice=choice, **scores)


def counted_row(
    task: str, key: str, grid: Grid, metric: Metric, counts: np.ndarray, seed: int, **others: Any
) -> dict[str, Any]:
    """Return a `dense_row` whose score is a metric of counts of clips, each a group of its own.

    Args:
        task, key, grid: as in `dense_row`.
        metric: of the score.
        counts: (m, s), of every test clip.
        seed: of the interval.
        others: of `dense_row`.
    """
    ci = bootstrap_interval(metric, counts, np.arange(len(counts)), seed)
    scores = {"metric": metric.name, "test": metric(counts), "ci": ci, "clips": len(counts)}
    return dense_row(task, key, grid, **scores, **others)
