"""Confidence intervals of means over clips and of proportions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

METHOD = "95%, Student's t over clips"
NORMAL_975 = 1.959963984540054  # the 97.5% quantile of the standard normal distribution


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over `n` clips and its 95% interval, None for a single clip."""

    mean: float
    interval: tuple[float, float] | None
    n: int


def mean_interval(values: Sequence[float], bounds: tuple[float, float] = (-inf, inf)) -> Mean:
    """Return the mean and 95% interval by Student's t distribution, clips taken as independent draws; cut off at
    `bounds`.

    The t interval rather than a bootstrap: with the handful of clips that is common here, resampling gives intervals
    that are too short. Raises ValueError for no values.
    """
    if len(values) == 0:
        raise ValueError("a mean needs at least one value, got 0")
    x = np.asarray(values, np.float64)
    if len(x) == 1:
        return Mean(mean=float(x[0]), interval=None, n=1)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5)
    low, high = max(bounds[0], float(x.mean()) - half), min(bounds[1], float(x.mean()) + half)
    return Mean(mean=float(x.mean()), interval=(low, high), n=len(x))


def clustered_interval(
    values: Sequence[float], groups: Sequence[object] | None = None, bounds: tuple[float, float] = (-inf, inf)
) -> Mean:
    """Return the mean of values and its 95% interval where those of a group, such as the queries on a film, may be
    alike: by sums over groups (Liang & Zeger 1986) and Student's t, and no shorter than that of independent draws; cut
    off at `bounds`.

    Without groups, or with a single one, values are independent draws. Values that are all at the same end of [0, 1],
    which show no spread, have the score interval of a proportion. Raises ValueError for no values.
    """
    x = np.asarray(values, np.float64)
    names = list(range(len(x))) if groups is None or len(set(groups)) < 2 else list(groups)
    if len(x) > 1 and bounds == (0.0, 1.0) and (np.all(x == 0) or np.all(x == 1)):
        return Mean(mean=float(x[0]), interval=wilson_interval(float(x[0]), len(set(names))), n=len(x))
    if len(set(names)) == len(x):
        return mean_interval(x, bounds)
    from scipy.stats import t

    mean, sums = float(x.mean()), {name: 0.0 for name in names}
    for name, value in zip(names, x, strict=True):
        sums[name] += float(value) - mean
    count = len(sums)
    error = (sum(value**2 for value in sums.values()) * count / (count - 1)) ** 0.5 / len(x)
    half = float(t.ppf(0.975, count - 1)) * error
    # a few groups of the same mean by chance would show no spread at all
    half = max(half, float(t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / len(x) ** 0.5))
    return Mean(mean=mean, interval=(max(bounds[0], mean - half), min(bounds[1], mean + half)), n=len(x))


def wilson_interval(share: float, n: int, z: float = NORMAL_975) -> tuple[float, float]:
    """Return the 95% score interval of a proportion: a share of n independent draws (Wilson 1927)."""
    center, half = share + z * z / (2 * n), z * (share * (1 - share) / n + (z / (2 * n)) ** 2) ** 0.5
    low, high = (center - half) / (1 + z * z / n), (center + half) / (1 + z * z / n)
    # at the ends both terms are equal, and rounding must not leave a bound a hair inside [0, 1]
    return max(float(low), 0.0) if share > 0 else 0.0, min(float(high), 1.0) if share < 1 else 1.0


def difference_interval(share: float, n: int, other: float, m: int) -> tuple[float, float]:
    """Return the 95% interval of a difference of two proportions, a share of n draws less one of m (Newcombe 1998,
    method 10).

    For shares of the same draws it is as wide as if they were others: too wide rather than too short.
    """
    (low, high), (other_low, other_high) = wilson_interval(share, n), wilson_interval(other, m)
    difference = share - other
    below = ((share - low) ** 2 + (other_high - other) ** 2) ** 0.5
    above = ((high - share) ** 2 + (other - other_low) ** 2) ** 0.5
    return max(difference - below, -1.0), min(difference + above, 1.0)
