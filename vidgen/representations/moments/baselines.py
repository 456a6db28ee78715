"""Spans predicted without a look at the film: by where moments lay in others, or at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vidgen.representations.moments.spans import Span, pairwise_iou

SharesOfFilm = Float[np.ndarray, "n 2"]


def relative_bounds(spans: Sequence[Sequence[Span]], durations: Sequence[float]) -> SharesOfFilm:
    """Return starts and ends of all spans as shares of the durations of their films."""
    rows = [(s.start / d, s.end / d) for queries, d in zip(spans, durations, strict=True) for s in queries]
    return np.clip(np.array(rows, np.float64).reshape(-1, 2), 0, 1)


def fit_prior(bounds: SharesOfFilm, count: int, iou: float = 0.5, most: int = 2000) -> SharesOfFilm:
    """Return `count` spans, as shares of a film, that hit most of the spans `bounds` of other films: the first one is
    that of their number which overlaps most of them by `iou` or more, each further one the best for those not yet hit.

    What a model without eyes can know of where moments lie. Of more than `most` spans, evenly many are candidates.
    Raises ValueError for no spans.
    """
    if not len(bounds):
        raise ValueError("a prior needs one span or more to be fitted to")
    candidates = bounds[np.linspace(0, len(bounds) - 1, min(most, len(bounds))).astype(int)]
    hits = pairwise_iou(candidates, bounds) >= iou
    left = np.ones(len(bounds), bool)
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates)):
        gains = (hits & left).sum(axis=1).astype(np.float64)
        gains[chosen] = -1
        best = int(np.argmax(gains))
        chosen.append(best)
        left &= ~hits[best]
    return candidates[chosen]


def prior_spans(prior: SharesOfFilm, duration: float) -> list[Span]:
    """Return the spans of a prior on a film, the best first."""
    scores = 1 / np.arange(1, len(prior) + 1)
    return [Span(start=s * duration, end=e * duration, score=float(v)) for (s, e), v in zip(prior, scores, strict=True)]


def random_spans(rng: np.random.Generator, bounds: SharesOfFilm, duration: float, count: int) -> list[Span]:
    """Return spans anywhere in a film, all places equally likely, whose lengths are drawn from those of other films."""
    lengths = (bounds[:, 1] - bounds[:, 0])[rng.integers(len(bounds), size=count)]
    starts = rng.random(count) * (1 - lengths)
    scores = np.sort(rng.random(count))[::-1]
    rows = zip(starts.tolist(), lengths.tolist(), scores.tolist(), strict=True)
    return [Span(start=s * duration, end=(s + n) * duration, score=v) for s, n, v in rows]
