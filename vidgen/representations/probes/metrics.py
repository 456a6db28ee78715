"""What probes are measured by, as functions of sums over clips, so that one bootstrap over groups serves them all."""

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
    """count(truth, predicted): numbers (n, s) of every clip. value(sums): the metric of their sums (..., s)."""

    name: str
    count: Callable[[np.ndarray, np.ndarray], Float[np.ndarray, "n s"]]
    value: Callable[[Sums], np.ndarray]

    def __call__(self, counts: Float[np.ndarray, "n s"]) -> float:
        return float(self.value(counts.sum(0)))


def count_right(truth: np.ndarray, predicted: np.ndarray) -> Float[np.ndarray, "n 2"]:
    return np.stack([truth == predicted, np.ones(len(truth))], axis=1).astype(np.float64)


def count_found(truth: Float[np.ndarray, "n k"], predicted: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n 2"]:
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    both = (truth & predicted).sum(1)
    return np.stack([2 * both, truth.sum(1) + predicted.sum(1)], axis=1).astype(np.float64)


def share(sums: Sums) -> np.ndarray:
    """The first sum over the second; 1 where nothing was there and nothing was said."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.ones(sums.shape[:-1]), where=sums[..., 1] > 0)


def count_squares(truth: Float[np.ndarray, "n k"], predicted: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n s"]:
    truth, predicted = truth.astype(np.float64), predicted.astype(np.float64)
    return np.concatenate([(truth - predicted) ** 2, truth, truth**2, np.ones((len(truth), 1))], axis=1)


def explained(sums: Sums) -> np.ndarray:
    """1 - residual / total sum of squares, the mean over outputs; an output that does not vary explains nothing."""
    n = sums[..., -1:]
    residual, first, second = np.split(sums[..., :-1], 3, axis=-1)
    total = second - first**2 / n
    # what is left of a constant by rounding is no variance
    varies = total > 1e-9 * np.abs(second)
    return np.where(varies, 1.0 - residual / np.where(varies, total, 1.0), 0.0).mean(-1)


# By what a label is: a word, a set of words, one or more numbers.
METRICS = {
    "class": Metric(name="accuracy", count=count_right, value=share),
    "multilabel": Metric(name="f1", count=count_found, value=share),  # over all clips and words (micro)
    "regression": Metric(name="r2", count=count_squares, value=explained),
}


def draw_groups(groups: np.ndarray, seed: int, draws: int = DRAWS) -> Int[np.ndarray, "draws g"]:
    """How often each group, in the order of np.unique, is in each bootstrap sample."""
    count = len(np.unique(groups.astype(str)))
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws)


def sum_groups(counts: Float[np.ndarray, "n s"], groups: np.ndarray) -> Float[np.ndarray, "g s"]:
    names, member = np.unique(groups.astype(str), return_inverse=True)
    sums = np.zeros((len(names), counts.shape[1]))
    np.add.at(sums, member, counts)
    return sums


def bootstrap_interval(
    metric: Metric, counts: Float[np.ndarray, "n s"], groups: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """95% interval: the percentile bootstrap (Efron & Tibshirani 1993, section 13.3) over groups, not clips.

    An accuracy's is widened where need be to Wilson's score interval over clips (Wilson 1927), as the bootstrap of a
    handful of groups, or of no errors, can be of no width.
    """
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
) -> tuple[float, float]:
    """95% interval of metric(counts) - metric(others) on the same clips: groups are drawn once for both."""
    drawn = draw_groups(groups, seed)
    gains = [metric.value(drawn @ sum_groups(c, groups)) for c in (counts, others)]
    low, high = np.percentile(gains[0] - gains[1], [2.5, 97.5])
    return float(low), float(high)
