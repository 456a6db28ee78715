"""Spans of time: overlap by hand and by counting grid cells, suppression, clipping, refusals."""

import math

import numpy as np
import pytest

from vidgen.data.annotations.record import SpanError
from vidgen.representations.moments.spans import (
    Span,
    as_array,
    clip_span,
    merge_spans,
    pairwise_iou,
    soft_suppress_overlaps,
    span_iou,
    suppress_overlaps,
)


def draw_spans(rng: np.random.Generator, count: int, longest: int = 40) -> list[Span]:
    """Spans between whole seconds, with random scores."""
    starts = rng.integers(0, longest - 1, count)
    ends = [int(rng.integers(start + 1, longest + 1)) for start in starts]
    return [Span(start=float(s), end=float(e), score=rng.random()) for s, e in zip(starts, ends, strict=True)]


def test_iou_is_a_count_of_seconds() -> None:
    rng = np.random.default_rng(0)
    first, second = draw_spans(rng, 20), draw_spans(rng, 30)
    matrix = pairwise_iou(as_array(first), as_array(second))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            one, two = set(range(int(a.start), int(a.end))), set(range(int(b.start), int(b.end)))
            assert matrix[i, j] == pytest.approx(len(one & two) / len(one | two))
            assert span_iou(a, b) == matrix[i, j]


@pytest.mark.parametrize(("start", "end"), [(3, 2), (2, 2), (-1, 2), (0, math.inf), (math.nan, 2), (0, math.nan)])
def test_spans_that_are_none_are_refused(start: float, end: float) -> None:
    with pytest.raises(SpanError, match="reversed, empty or outside"):
        Span(start=start, end=end)


def test_clipping() -> None:
    assert clip_span(Span(start=1, end=9, score=2), 5) == Span(start=1, end=5, score=2)
    assert clip_span(Span(start=1, end=2), 5) == Span(start=1, end=2)
    with pytest.raises(SpanError, match="outside of the film's 5 s"):
        clip_span(Span(start=5, end=9), 5)
    with pytest.raises(SpanError, match="score"):
        Span(start=0, end=1, score=math.nan)


def test_suppression_by_hand() -> None:
    best, near, far = (
        Span(start=0, end=10, score=3),
        Span(start=1, end=10, score=2),  # IoU 0.9
        Span(start=8, end=12, score=1),  # IoU 2 / 12 with the best
    )
    assert suppress_overlaps([far, near, best], 0.5) == [best, far]
    assert suppress_overlaps([far, near, best], 0.9) == [best, near, far]
    assert suppress_overlaps([far, near, best], 0.0) == [best]
    assert suppress_overlaps([far, near, best], 0.9, top_k=2) == [best, near]
    assert suppress_overlaps([], 0.5) == []


def test_suppression_leaves_no_two_alike_and_drops_none_without_reason() -> None:
    spans = draw_spans(np.random.default_rng(1), 60)
    kept = suppress_overlaps(spans, 0.4)
    assert all(span_iou(a, b) <= 0.4 for i, a in enumerate(kept) for b in kept[:i])
    for span in spans:
        assert span in kept or any(span_iou(span, better) > 0.4 and better.score >= span.score for better in kept)


def test_soft_suppression_lowers_by_overlap() -> None:
    spans = [Span(start=0, end=10, score=1.0), Span(start=0, end=10, score=0.9), Span(start=20, end=30, score=0.5)]
    chosen = soft_suppress_overlaps(spans, 0.5)
    assert [(span.start, round(span.score, 6)) for span in chosen] == [
        (0, 1.0),
        (20, 0.5),
        (0, round(0.9 * math.exp(-2), 6)),
    ]
    with pytest.raises(ValueError, match="0 or more"):
        soft_suppress_overlaps([Span(start=0, end=1, score=-1)], 0.5)


def test_merging_covers_the_same_seconds() -> None:
    spans = draw_spans(np.random.default_rng(2), 12)
    merged = merge_spans(spans)
    seconds = {second for span in spans for second in range(int(span.start), int(span.end))}
    assert seconds == {second for span in merged for second in range(int(span.start), int(span.end))}
    assert all(a.end < b.start for a, b in zip(merged, merged[1:], strict=False))
    assert merge_spans([Span(start=0, end=1), Span(start=2, end=3)], gap=1) == [Span(start=0, end=3)]
