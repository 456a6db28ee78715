"""Rates of symbols against closed forms, interpolation against a curve that is a line, intervals against tables."""

from math import log2

import numpy as np
import pytest

from vidgen.metrics import adaptive_bits, entropy, interpolate_rate, mean_interval


@pytest.mark.parametrize("n", [1, 2, 7, 64, 1000])
def test_uniform_symbols_have_log2_n_bits(n: int) -> None:
    assert entropy(np.repeat(np.arange(n), 3)) == pytest.approx(log2(n), abs=1e-12)


def test_entropy_of_a_coin() -> None:
    assert entropy(np.array([0, 0, 0, 1])) == pytest.approx(0.25 * 2 + 0.75 * log2(4 / 3))
    assert entropy(np.array([], int)) == 0


def sequential_bits(symbols: list[int], alphabet: int) -> float:
    """The same coder, symbol by symbol."""
    counts, bits = np.zeros(alphabet), 0.0
    for s in symbols:
        bits -= log2((counts[s] + 0.5) / (counts.sum() + alphabet / 2))
        counts[s] += 1
    return bits


def test_adaptive_bits_are_those_of_the_coder() -> None:
    assert sequential_bits([0, 0], 2) == pytest.approx(1 + log2(4 / 3))
    rng = np.random.default_rng(0)
    symbols = rng.choice(5, 200, p=[0.7, 0.1, 0.1, 0.05, 0.05])
    assert adaptive_bits(symbols, 8) == pytest.approx(1 + sequential_bits(symbols.tolist(), 8))


def test_adaptive_bits_lie_between_the_entropy_and_a_fixed_length() -> None:
    rng = np.random.default_rng(1)
    skewed, n = rng.geometric(0.5, 20_000).clip(max=16) - 1, 20_000
    assert n * entropy(skewed) < adaptive_bits(skewed, 16) < 1.01 * n * entropy(skewed)
    rare = rng.integers(2**18, size=500)  # few symbols of many: their own entropy is no rate that can be had
    assert entropy(rare) < log2(500) + 1e-9 and adaptive_bits(rare, 2**18) == 1 + 500 * 18
    with pytest.raises(ValueError, match="3 different symbols are not of an alphabet of 2"):
        adaptive_bits(np.array([0, 1, 2]), 2)


def test_interpolation_is_exact_on_a_log_linear_curve() -> None:
    rates = [0.4, 0.01, 0.1]
    values = [30 + 5 * log2(rate) for rate in rates]
    for rate in (0.01, 0.013, 0.1, 0.25, 0.4):
        assert interpolate_rate(rates, values, rate) == pytest.approx(30 + 5 * log2(rate), abs=1e-12)
    assert interpolate_rate(rates, values, 0.009) is interpolate_rate(rates, values, 0.41) is None
    assert interpolate_rate([0.1, 0.1, 0.2], [3.0, 4.0, 5.0], 0.1) == 4
    with pytest.raises(ValueError, match="rates must be positive"):
        interpolate_rate([0.0, 0.1], [1.0, 2.0], 0.05)


def test_mean_and_interval() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * (5 / 3) ** 0.5 / 2  # t table: 0.975, 3 degrees of freedom
    assert (found.mean, found.n) == (2.5, 4)
    assert found.interval == pytest.approx((2.5 - half, 2.5 + half), abs=1e-6)
    assert mean_interval([1.0, 2.0, 3.0, 4.0], (2.0, 3.0)).interval == (2.0, 3.0)
    assert mean_interval([7.0]).interval is None
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(3.0, 2.0, (2000, 5))
    hit = [low <= 3.0 <= high for low, high in (mean_interval(row).interval for row in draws)]
    assert 0.93 < np.mean(hit) < 0.97
