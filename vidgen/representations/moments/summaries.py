"""Summaries of a film within a budget of seconds, by how well its segments go with a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from vidgen.errors import VidgenError
from vidgen.representations.moments.curves import SimilarityCurve
from vidgen.representations.moments.spans import Span, as_array

RESOLUTION = 0.1  # seconds that lengths are counted in; they are rounded up, so that a budget is kept


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Segments in order of time, each with its mean similarity as score, `seconds` in all."""

    spans: tuple[Span, ...]
    seconds: float


def choose_within(
    values: Float[np.ndarray, " n"], lengths: Int[np.ndarray, " n"], budget: int
) -> Bool[np.ndarray, " n"]:
    """Return which items have the greatest sum of values with lengths of at most `budget` in all, exactly (0/1 knapsack
    by dynamic programming). Items of no value are left out.

    Raises ValueError for lengths below 1.
    """
    values, lengths = np.asarray(values, np.float64), np.asarray(lengths, np.int64)
    if len(lengths) and lengths.min() < 1:
        raise ValueError(f"lengths must be 1 or more, got {lengths.min()}")
    best = np.zeros(budget + 1)
    taken = np.zeros((len(values), budget + 1), bool)
    for item, (value, length) in enumerate(zip(values, lengths.tolist(), strict=True)):
        if value <= 0 or length > budget:
            continue
        with_item = best[: budget + 1 - length] + value
        taken[item, length:] = with_item > best[length:]
        best[length:] = np.maximum(best[length:], with_item)
    chosen = np.zeros(len(values), bool)
    left = budget
    for item in reversed(range(len(values))):
        if taken[item, left]:
            chosen[item] = True
            left -= int(lengths[item])
    return chosen


def summarize(segments: Sequence[Span], curve: SimilarityCurve, budget: float) -> Summary:
    """Return the segments that say most about a text within `budget` seconds: of the greatest similarity by time.

    What counts of a segment is its mean above the curve's lowest, times its length. Raises VidgenError for a budget in
    which no segment has room.
    """
    bounds = as_array(segments)
    seconds = bounds[:, 1] - bounds[:, 0]
    means = curve.means(bounds)
    units = np.maximum(np.ceil(seconds / RESOLUTION - 1e-6), 1).astype(np.int64)
    room = int(budget / RESOLUTION + 1e-6)
    if not len(units) or units.min() > room:
        shortest = f"the shortest has {seconds.min():.1f} s" if len(units) else "there are none"
        raise VidgenError(f"a summary of {budget:g} s has room for none of {len(units)} segments: {shortest}")
    chosen = choose_within((means - curve.values.min() + 1e-9) * seconds, units, room)
    spans = [
        Span(start=s.start, end=s.end, score=float(m)) for s, m, c in zip(segments, means, chosen, strict=True) if c
    ]
    return Summary(spans=tuple(spans), seconds=float(seconds[chosen].sum()))


def list_highlights(curve: SimilarityCurve, segments: Sequence[Span], count: int) -> list[Span]:
    """Return the `count` segments most like a text, the best first."""
    means = curve.means(as_array(segments))
    order = np.argsort(-means, kind="stable")[:count]
    return [Span(start=segments[i].start, end=segments[i].end, score=float(means[i])) for i in order]
