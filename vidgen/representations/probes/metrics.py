"""Metrics of probes, as functions of sums over clips, so that one bootstrap over groups serves them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vidgen.metrics.intervals import wilson_interval

DRAWS = 2000
Sums = Float[np.ndarray, "*draws s"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric in two steps: count(truth, predictions) gives numbers (n, s) of every clip, and value(sums) the metric
    of their sums (..., s)."""

    name: str
    count: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, "n s"]]
    value: Callable[[Sums], np.ndarray]

    def __call__(self, counts: Float[np.ndarray, "n s"]) -> float:
        """Return the metric of all clips that were counted."""
        return float(self.value(counts.sum(0)))


def count_mean(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n 2"]:
    """Return the counts whose `ratio_of_sums` is the mean of a value of every clip."""
    return np.stack([values, np.ones(len(values))], axis=1).astype(np.float64)


def count_correct(truth: np.ndarray, predictions: np.ndarray) -> Float[np.ndarray, "n 2"]:
    """Return the counts of accuracy."""
    return count_mean(truth == predictions)


def count_f1(truth: Float[np.ndarray, "n k"], predictions: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n 2"]:
    """Return the counts of micro-averaged F1: twice the words in both, and the words in either."""
    truth, predictions = truth.astype(bool), predictions.astype(bool)
    both = (truth & predictions).sum(1)
    return np.stack([2 * both, truth.sum(1) + predictions.sum(1)], axis=1).astype(np.float64)


def ratio_of_sums(sums: Sums) -> np.ndarray:
    """Return the first sum over the second; 1 where nothing was there and nothing was predicted."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.ones(sums.shape[:-1]), where=sums[..., 1] > 0)


def count_squares(truth: Float[np.ndarray, "n k"], predictions: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n s"]:
    """Return the counts of R2: squared errors, values, squared values, and ones."""
    truth, predictions = truth.astype(np.float64), predictions.astype(np.float64)
    return np.concatenate([(truth - predictions) ** 2, truth, truth**2, np.ones((len(truth), 1))], axis=1)


def r2_of_sums(sums: Sums) -> np.ndarray:
    """Return 1 - residual / total sum of squares, the mean over outputs; for an output that does not vary it is 0."""
    n = sums[..., -1:]
    residual, first, second = np.split(sums[..., :-1], 3, axis=-1)
    total = second - first**2 / n
    # what is left of a constant by rounding is no variance
    varies = total > 1e-9 * np.abs(second)
    return np.where(varies, 1.0 - residual / np.where(varies, total, 1.0), 0.0).mean(-1)


# By target type: a class, a set of words, one or more numbers.
METRICS = {
    "class": Metric(name="accuracy", count=count_correct, value=ratio_of_sums),
    "multilabel": Metric(name="f1", count=count_f1, value=ratio_of_sums),  # over all clips and words (micro)
    "regression": Metric(name="r2", count=count_squares, value=r2_of_sums),
}


def draw_groups(groups: np.ndarray, seed: int, draws: int = DRAWS) -> Int[np.ndarray, "draws g"]:
    """Return how often each group, in the order of np.unique, is in each bootstrap sample."""
    count = len(np.unique(groups.astype(str)))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)


def sum_groups(counts: Float[np.ndarray, "n s"], groups: np.ndarray) -> Float[np.ndarray, "g s"]:
    """Return the sums of counts over the clips of each group."""
    names, member = np.unique(groups.astype(str), return_inverse=True)
    sums = np.zeros((len(names), counts.shape[1]))
    np.add.at(sums, member, counts)
    return sums


def bootstrap_interval(
    metric: Metric, counts: Float[np.ndarray, "n s"], groups: np.ndarray, seed: int = 0
) -> tuple[float, float] | None:
    """Return a 95% interval: the percentile bootstrap (Efron & Tibshirani 1993, section 13.3) over groups, not clips.

    One group has none: nothing says how groups differ.

    An accuracy's is widened where need be to Wilson's score interval over clips (Wilson 1927), as the bootstrap of a
    handful of groups, or of no errors, can be of no width.
    """
    if len(set(groups)) < 2:
        return None
    low, high = np.percentile(metric.value(draw_groups(groups, seed) @ sum_groups(counts, groups)), [2.5, 97.5])
    if metric.name == "accuracy":
        wilson = wilson_interval(metric(counts), len(counts))
        low, high = min(low, wilson[0]), max(high, wilson[1])
    return float(low), float(high)


def difference_interval(
    metric: Metric,
    counts: Float[np.ndarray, "n s"],
    others: Float[np.ndarray, "n s"],
    groups: np.ndarray,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the 95% interval of metric(counts) - metric(others) on the same clips: groups are drawn once for both.

    One group has none.
    """
    if len(set(groups)) < 2:
        return None
    drawn = draw_groups(groups, seed)
    gains = [metric.value(drawn @ sum_groups(c, groups)) for c in (counts, others)]
    low, high = np.percentile(gains[0] - gains[1], [2.5, 97.5])
    return float(low), float(high)
