"""Measures of spans and saliency against cases worked by hand and against the definition, spelled out in loops."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from vidgen.representations.moments.metrics import (
    IOU_THRESHOLDS,
    LENGTH_RANGES,
    SALIENCY_LEVELS,
    highlight_average_precision,
    interpolated_average_precision,
    match_spans,
    restrict_length,
    score_highlights,
    score_spans,
    span_average_precision,
)
from vidgen.representations.moments.spans import Span


def spans(*bounds: tuple[float, ...]) -> list[Span]:
    return [Span(start=b[0], end=b[1], score=b[2] if len(b) > 2 else 0.0) for b in bounds]


def draw(rng: np.random.Generator, count: int) -> list[Span]:
    starts = rng.integers(0, 20, count)
    return spans(*((float(s), float(s + rng.integers(1, 10)), float(rng.random())) for s in starts))


def loop_precision(true: list[Span], predicted: list[Span], threshold: float) -> float:
    """Average precision by its definition, with sets of tenths of a second for overlaps."""
    left, hits = list(range(len(true))), []
    for span in sorted(predicted[:10], key=lambda span: span.score, reverse=True):
        cells = set(range(round(10 * span.start), round(10 * span.end)))
        options = []
        for i in left:
            other = set(range(round(10 * true[i].start), round(10 * true[i].end)))
            options.append((len(cells & other) / len(cells | other), i))
        overlap, i = max(options, default=(0.0, -1))
        hits.append(overlap >= threshold)
        if hits[-1]:
            left.remove(i)
    ranks = range(1, len(hits) + 1)
    points = [(sum(hits[:rank]) / len(true), sum(hits[:rank]) / rank) for rank in ranks]
    levels = [(i + 1) / len(true) for i in range(len(true))]
    return sum(max((p for r, p in points if r >= level - 1e-9), default=0.0) for level in levels) / len(levels)


def test_average_precision_by_hand() -> None:
    # hits at ranks 1 and 3 of 2: precision 1 and 2/3
    assert interpolated_average_precision([True, False, True], 2) == pytest.approx((1 + 2 / 3) / 2)
    # a later hit lifts the precision of an earlier one: 1/3 becomes 2/4
    assert interpolated_average_precision([False, False, True, True], 2) == pytest.approx(0.5)
    assert interpolated_average_precision([False, True], 4) == pytest.approx(0.5 / 4)
    assert interpolated_average_precision([], 1) == interpolated_average_precision([False], 1) == 0.0


def test_a_true_span_is_found_once() -> None:
    true = spans((0, 10), (20, 30))
    predicted = spans((0, 10, 3), (1, 10, 2), (20, 26, 1))  # the second is right too, but late; the third has IoU 0.6
    assert match_spans(true, predicted, [0.5, 0.7]).tolist() == [[0, 0], [-1, -1], [1, -1]]
    precision = span_average_precision(true, predicted)
    assert precision[IOU_THRESHOLDS.index(0.5)] == pytest.approx((1 + 2 / 3) / 2)
    assert precision[IOU_THRESHOLDS.index(0.6)] == pytest.approx((1 + 2 / 3) / 2)
    assert precision[IOU_THRESHOLDS.index(0.65)] == 0.5
    # a second choice where the first is taken
    assert match_spans(spans((0, 10), (0, 8)), spans((0, 9), (0, 10)), [0.5])[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_is_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, predicted = draw(rng, int(rng.integers(1, 5))), draw(rng, int(rng.integers(1, 14)))
    precision = span_average_precision(true, predicted)
    expected = [loop_precision(true, predicted, threshold) for threshold in IOU_THRESHOLDS]
    assert precision == pytest.approx(expected)


def test_scores_by_hand() -> None:
    true = [spans((0, 10)), spans((0, 4), (10, 20)), spans((5, 6))]
    predicted = [spans((0, 6, 2), (0, 10, 1)), spans((10, 20, 1)), []]
    scores = score_spans(true, predicted)
    assert scores.recall["R1@0.5"].mean == pytest.approx(2 / 3)
    assert scores.recall["R1@0.7"].mean == pytest.approx(1 / 3)
    assert scores.recall["R5@0.7"].mean == pytest.approx(2 / 3)
    assert scores.mean_iou.mean == pytest.approx((0.6 + 1.0 + 0.0) / 3)
    # the first query: its first span is right up to an IoU of 0.6, the second one from there on at rank 2
    assert scores.average_precision[0.5].mean == pytest.approx((1 + 0.5 + 0) / 3)
    assert scores.mean_average_precision.mean == pytest.approx(((3 * 1 + 7 * 0.5) / 10 + 0.5) / 3)
    low, high = scores.recall["R1@0.5"].interval
    assert 0 <= low < 2 / 3 < high <= 1


def test_recall_goes_by_the_order_listed_and_precision_by_score() -> None:
    true, predicted = [spans((0, 10))], [spans((20, 30, 1), (0, 10, 2))]
    scores = score_spans(true, predicted)
    assert scores.recall["R1@0.5"].mean == 0 and scores.mean_average_precision.mean == 1


def test_queries_without_truth_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a true one"):
        score_spans([[]], [[]])
    with pytest.raises(ValueError, match="queries"):
        score_spans([], [])


def test_length_ranges_keep_predictions() -> None:
    true = [spans((0, 10), (0, 10.5)), spans((0, 100))]
    predicted = [spans((0, 1)), spans((0, 2))]
    assert restrict_length(true, predicted, LENGTH_RANGES["short"]) == ([spans((0, 10))], [predicted[0]])
    assert restrict_length(true, predicted, LENGTH_RANGES["middle"]) == ([spans((0, 10.5))], [predicted[0]])
    assert restrict_length(true, predicted, LENGTH_RANGES["long"]) == ([spans((0, 100))], [predicted[1]])


@pytest.mark.parametrize("seed", range(20))
def test_highlight_precision_is_that_of_the_curve(seed: int) -> None:
    rng = np.random.default_rng(seed)
    relevant = rng.random(12) < 0.4
    relevant[0], relevant[1] = True, False
    scores = rng.integers(0, 6, 12).astype(float)  # with ties
    precision, recall, _ = precision_recall_curve(relevant, scores)
    best = [precision[recall >= level].max() for level in np.unique(recall) if level > 0]
    assert highlight_average_precision(relevant, scores) == pytest.approx(np.mean(best))


def test_highlights_by_hand() -> None:
    saliency = np.array([[4, 0], [3, 4], [0, 0], [0, 0]])  # four clips, two annotators
    level = SALIENCY_LEVELS["very_good"]
    # the first annotator's one highlight is at rank 1, the second's at rank 2
    assert score_highlights([saliency], [np.array([0.9, 0.8, 0.1, 0.0])], level) == (0.75, 1.0)
    # the highest lies after the end; of the rest, all zero, the missing ones too, nothing can be told: one block
    assert score_highlights([saliency], [np.array([0, 0, 0, 0, 1.0])], level) == (0.25, 0.0)
    assert score_highlights([np.zeros((2, 3))], [np.array([0.5])], 2) == (0.0, 0.0)
    with pytest.raises(ValueError, match="one clip or more"):
        score_highlights([saliency], [np.array([])], 2)
