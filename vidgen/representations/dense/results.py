"""Results of dense probes as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidgen.representations.dense.grids import Grid, is_baseline, parse_grid_key


def describe(
    task: str,
    key: str,
    grid: Grid,
    *,
    kind: str,
    metric: str,
    validation: float,
    test: float,
    ci: tuple[float, float],
    clips: int,
    choice: Any = None,
    baseline: bool = False,
    others: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A row. choice: what was chosen on validation, as plain data. baseline: it is one whatever its key. others: what
    this task says besides."""
    layer, level = parse_grid_key(key)
    return {
        "task": task,
        "layer": layer,
        "tap": layer,
        "noise_level": level,
        "pool": "none",
        "kind": kind,
        "metric": metric,
        "validation": validation,
        "test": test,
        "ci": list(ci),
        "baseline": baseline or is_baseline(key),
        "stride": list(grid.stride),
        "clips": clips,
        "choice": choice,
        **(others or {}),
    }
