"""Spans of time in seconds: their overlap, the part of one inside a film, and those left when likes are removed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from vidgen.data.annotations.record import SpanError


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """From `start` to `end` in seconds. `score` is how sure a prediction is, of any scale; what is true needs none.

    Raises SpanError for a span that is reversed, empty, not finite or from before 0.
    """

    start: float
    end: float
    score: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end < math.inf:
            raise SpanError(
                f"a span from {self.start:g} to {self.end:g} s is reversed, empty or outside; it needs 0 <= start < end"
            )
        if not math.isfinite(self.score):
            raise SpanError(f"the span from {self.start:g} to {self.end:g} s has the score {self.score}; give a number")

    @property
    def length(self) -> float:
        """Seconds from start to end."""
        return self.end - self.start


def clip_span(span: Span, duration: float) -> Span:
    """Return the part of a span inside a film of `duration` seconds. Raises SpanError where there is none."""
    if span.start >= duration:
        raise SpanError(f"the span from {span.start:g} to {span.end:g} s is outside of the film's {duration:g} s")
    return replace(span, end=min(span.end, duration))


def as_array(spans: Sequence[Span]) -> Float[np.ndarray, "n 2"]:
    """Return starts and ends as an array."""
    return np.array([(span.start, span.end) for span in spans], np.float64).reshape(-1, 2)


def pairwise_iou(first: Float[np.ndarray, "n 2"], second: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, "n m"]:
    """Return intersection over union of every span (start, end) of one list with every one of another."""
    low = np.maximum(first[:, None, 0], second[None, :, 0])
    high = np.minimum(first[:, None, 1], second[None, :, 1])
    shared = np.clip(high - low, 0, None)
    lengths = (first[:, 1] - first[:, 0])[:, None] + (second[:, 1] - second[:, 0])[None, :]
    return shared / (lengths - shared)


def span_iou(first: Span, second: Span) -> float:
    """Return the intersection over union of two spans, in [0, 1]."""
    return float(pairwise_iou(as_array([first]), as_array([second]))[0, 0])


def suppress_overlaps(spans: Sequence[Span], threshold: float, top_k: int | None = None) -> list[Span]:
    """Return the spans by falling score without those whose IoU with a better one is above `threshold`, the first
    `top_k` of them (non-maximum suppression). Of equal scores, the one that comes first is better.

    Raises ValueError for a threshold outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"an IoU lies in [0, 1], got the threshold {threshold}")
    ranked = sorted(spans, key=lambda span: -span.score)
    bounds = as_array(ranked)
    alive = np.ones(len(ranked), bool)
    kept: list[Span] = []
    for number, span in enumerate(ranked):
        if len(kept) == (len(ranked) if top_k is None else top_k):
            break
        if alive[number]:
            kept.append(span)
            alive &= pairwise_iou(bounds[number : number + 1], bounds)[0] <= threshold
    return kept


def soft_suppress_overlaps(spans: Sequence[Span], sigma: float, top_k: int | None = None) -> list[Span]:
    """Return the spans by falling score, where each one chosen lowers the scores (of 0 or more) of those left by
    exp(-IoU^2 / sigma) (soft-NMS, Bodla et al. 2017, equation 3).

    Raises ValueError for a sigma that is not above 0, and for negative scores, which lowering would raise.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    if any(span.score < 0 for span in spans):
        raise ValueError("scores must be 0 or more: a factor below 1 would raise negative ones")
    bounds = as_array(spans)
    scores = np.array([span.score for span in spans], np.float64)
    left = np.ones(len(spans), bool)
    chosen: list[Span] = []
    while left.any() and (top_k is None or len(chosen) < top_k):
        best = int(np.argmax(np.where(left, scores, -1.0)))
        chosen.append(replace(spans[best], score=float(scores[best])))
        left[best] = False
        scores *= np.exp(-(pairwise_iou(bounds[best : best + 1], bounds)[0] ** 2) / sigma)
    return chosen


def merge_spans(spans: Sequence[Span], gap: float = 0.0) -> list[Span]:
    """Return spans in order of time, those that overlap or are at most `gap` seconds apart as one with the best score.

    Raises ValueError for a negative gap.
    """
    if gap < 0:
        raise ValueError(f"a gap between spans is 0 or more seconds, got {gap}")
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if merged and span.start <= merged[-1].end + gap:
            last = merged[-1]
            merged[-1] = Span(start=last.start, end=max(last.end, span.end), score=max(last.score, span.score))
        else:
            merged.append(span)
    return merged
