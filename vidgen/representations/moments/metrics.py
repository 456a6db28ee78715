"""Measures of predicted spans and saliency, as QVHighlights (Lei et al. 2021) and its evaluators define them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vidgen.metrics.intervals import Mean, clustered_interval
from vidgen.representations.moments.spans import Span, as_array, pairwise_iou

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
COUNTED_SPANS = 10  # of a query's predictions, the first so many count for average precision
LENGTH_RANGES = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0)}  # seconds, above and up to
SALIENCY_LEVELS = {"fair": 2, "good": 3, "very_good": 4}  # the least of 0 to 4 that counts as a highlight


@dataclass(frozen=True, kw_only=True)
class MomentScores:
    """Scores over queries, each a mean in [0, 1] with its 95% interval.

    recall["R1@0.5"]: the share of queries one of whose first 1 spans has an IoU of 0.5 or more with a true one.
    average_precision: by threshold; mean_average_precision: its mean over the thresholds. mean_iou: of the first span
    with the true span that it fits best.
    """

    recall: dict[str, Mean]
    average_precision: dict[float, Mean]
    mean_average_precision: Mean
    mean_iou: Mean


def interpolated_average_precision(hits: Sequence[bool], positives: int) -> float:
    """Return the area under the interpolated precision-recall curve (VOC 2010) of a ranking whose hits are each one
    more of `positives` things: the mean, over these, of the best precision at this recall or a higher one."""
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[np.flatnonzero(hits)].sum() / positives)


def match_spans(true: Sequence[Span], predicted: Sequence[Span], thresholds: Sequence[float]) -> Int[np.ndarray, "n k"]:
    """Return which true span each prediction finds at each IoU threshold, -1 for none.

    Predictions choose in the order given, each the true span of most overlap that is still free.
    """
    iou = pairwise_iou(as_array(predicted), as_array(true))
    matches = np.full((len(predicted), len(thresholds)), -1)
    for column, threshold in enumerate(thresholds):
        free = np.ones(len(true), bool)
        for row in range(len(predicted)):
            for candidate in np.argsort(iou[row], kind="stable")[::-1]:
                if iou[row, candidate] < threshold:
                    break
                if free[candidate]:
                    matches[row, column] = candidate
                    free[candidate] = False
                    break
    return matches


def span_average_precision(
    true: Sequence[Span], predicted: Sequence[Span], thresholds: Sequence[float] = IOU_THRESHOLDS
) -> Float[np.ndarray, " k"]:
    """Return the average precision of a query's first `COUNTED_SPANS` predictions by score, one number a threshold."""
    ranked = sorted(predicted[:COUNTED_SPANS], key=lambda span: -span.score)
    hits = match_spans(true, ranked, thresholds) >= 0
    return np.array([interpolated_average_precision(column, len(true)) for column in hits.T])


def score_spans(
    true: Sequence[Sequence[Span]],
    predicted: Sequence[Sequence[Span]],
    groups: Sequence[object] | None = None,
    *,
    ks: Sequence[int] = (1, 5),
    recall_thresholds: Sequence[float] = (0.5, 0.7),
) -> MomentScores:
    """Return recall, average precision and mean IoU of the spans predicted for each query.

    A query without predictions scores 0. R@k takes the first k as they are listed, average precision goes by score.

    Args:
        true: the spans of each query, one or more.
        predicted: those predicted for each, the best first.
        groups: the film of each query: intervals hold for other films, and not only for other queries on these.
        ks: how many predictions recall counts.
        recall_thresholds: the IoU from which on a span is right, for recall.

    Raises ValueError for lists of different lengths, and for no queries or a query without a true span.
    """
    if len(true) != len(predicted) or not true or not all(true):
        raise ValueError(
            f"true spans of {len(true)} queries, predicted ones of {len(predicted)}; every query needs a true one"
        )
    best = [_best_overlaps(*spans, max(ks)) for spans in zip(true, predicted, strict=True)]
    precision = np.stack([span_average_precision(*spans) for spans in zip(true, predicted, strict=True)])

    def mean(values: Sequence[float]) -> Mean:
        return clustered_interval(values, groups, (0.0, 1.0))

    return MomentScores(
        recall={
            f"R{k}@{threshold:g}": mean([float((row[:k] >= threshold).any()) for row in best])
            for k in ks
            for threshold in recall_thresholds
        },
        average_precision={t: mean(precision[:, i]) for i, t in enumerate(IOU_THRESHOLDS)},
        mean_average_precision=mean(precision.mean(axis=1)),
        mean_iou=mean([float(row[0]) if len(row) else 0.0 for row in best]),
    )


def _best_overlaps(true: Sequence[Span], predicted: Sequence[Span], count: int) -> Float[np.ndarray, " k"]:
    """Return the IoU of each of the first predictions with the true span that it fits best."""
    return pairwise_iou(as_array(predicted[:count]), as_array(true)).max(axis=1)


def restrict_length(
    true: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]], lengths: tuple[float, float]
) -> tuple[list[list[Span]], list[list[Span]]]:
    """Return the true spans above lengths[0] and up to lengths[1] seconds, and the predictions of their queries.

    Queries without such a span are left out, predictions of any length stay; see `LENGTH_RANGES`.
    """
    low, high = lengths
    inside = [[span for span in spans if low < span.length <= high] for spans in true]
    rows = [i for i, spans in enumerate(inside) if spans]
    return [inside[i] for i in rows], [list(predicted[i]) for i in rows]


def score_highlights(
    saliency: Sequence[Float[np.ndarray, "n w"]], predicted: Sequence[Float[np.ndarray, " m"]], level: int
) -> tuple[float, float]:
    """Return (mAP, HIT@1) of predicted saliency against that of annotators.

    mAP is a mean over queries and annotators; HIT@1 the share of queries whose clip of the highest prediction is a
    highlight for one annotator or more.

    Args:
        saliency: of each query, for each of its n clips what w annotators said, 0 to 4.
        predicted: of each query, a number for each clip; those after the last one of `saliency` do not count, except
            that HIT@1 fails where the highest lies there, and missing ones are 0.
        level: the least saliency of a highlight; see `SALIENCY_LEVELS`.

    Raises ValueError for no queries, and for a query without predictions or clips.
    """
    if not saliency or not all(map(len, predicted)) or not all(map(len, saliency)):
        raise ValueError(f"{len(saliency)} queries: each needs saliency of one clip or more, true and predicted")
    precisions, hits = [], []
    for truth, scores in zip(saliency, predicted, strict=True):
        relevant = np.asarray(truth) >= level
        scores = np.asarray(scores, np.float64)
        top = int(np.argmax(scores))
        hits.append(top < len(relevant) and bool(relevant[top].any()))
        padded = np.zeros(len(relevant))
        padded[: len(scores)] = scores[: len(relevant)]
        precisions += [highlight_average_precision(column, padded) for column in relevant.T]
    return float(np.mean(precisions)), float(np.mean(hits))


def highlight_average_precision(relevant: Sequence[bool], scores: Sequence[float]) -> float:
    """Return the mean of interpolated precision over the values of recall that a ranking reaches, as QVHighlights has
    it: tied scores are one step of recall, which counts once. 1 where everything is relevant, 0 where nothing is."""
    relevant, scores = np.asarray(relevant, bool), np.asarray(scores, np.float64)
    if relevant.all() or not relevant.any():
        return float(relevant.all())
    order = np.argsort(-scores, kind="stable")
    counts = np.cumsum(relevant[order])
    ends = np.flatnonzero(np.r_[scores[order][1:] != scores[order][:-1], True])  # of blocks of ties
    precision = counts[ends] / (ends + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    is_step = np.diff(counts[ends], prepend=0) > 0
    return float(envelope[is_step].mean())
