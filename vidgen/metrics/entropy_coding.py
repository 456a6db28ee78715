"""Entropy coding: the bits of symbols, and the quality of a rate-quality curve at a rate between its points."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log2

import numpy as np
from jaxtyping import Int

RANGE_BITS = 32  # two 16-bit integers: the smallest and the largest symbol of a stream


def entropy(symbols: Int[np.ndarray, " n"]) -> float:
    """Return the empirical entropy of the symbols, in bits a symbol (Shannon 1948): that of their own histogram.

    It is the rate of an ideal static coder that knows the histogram for nothing: a lower bound, and far too low where
    symbols are few and the alphabet large. 0 for no symbols.
    """
    counts = np.unique(symbols, return_counts=True)[1]
    p = counts / max(len(symbols), 1)
    return float(-(p * np.log2(p)).sum()) + 0.0  # no -0.0


def adaptive_bits(symbols: Int[np.ndarray, " n"], alphabet: int) -> float:
    """Return the bits of an adaptive arithmetic coder for all symbols together: nothing but them has to be sent.

    The Krichevsky-Trofimov estimator (1981) over `alphabet` symbols: a symbol seen k times in m has probability
    (k + 1/2) / (m + alphabet / 2), and the product has a closed form in the counts. One bit more says whether that is
    used, or a fixed length of log2(alphabet) bits a symbol, whichever is less.
    Raises ValueError where the symbols cannot be of such an alphabet.
    """
    from scipy.special import gammaln

    counts = np.unique(symbols, return_counts=True)[1]
    if alphabet < max(len(counts), 1):
        raise ValueError(f"{len(counts)} different symbols are not of an alphabet of {alphabet}")
    n = len(symbols)
    nats = gammaln(n + alphabet / 2) - gammaln(alphabet / 2) - (gammaln(counts + 0.5) - gammaln(0.5)).sum()
    return 1.0 + min(float(nats) / log(2), n * log2(alphabet))


def interpolate_rate(rates: Sequence[float], values: Sequence[float], rate: float) -> float | None:
    """Return the value of the curve through (log rate, value) at `rate`, linear between neighbors; None outside its
    rates.

    Of several points with one rate the best counts. Raises ValueError for rates that are not positive.
    """
    if len(rates) != len(values) or min([*rates, rate]) <= 0:
        raise ValueError(f"rates must be positive and one a value, got {list(rates)} for {len(values)} values, {rate}")
    best: dict[float, float] = {}
    for r, v in zip(rates, values, strict=True):
        best[r] = max(v, best.get(r, v))
    x = sorted(best)
    if not x or not x[0] <= rate <= x[-1]:
        return None
    return float(np.interp(log(rate), np.log(x), [best[r] for r in x]))
