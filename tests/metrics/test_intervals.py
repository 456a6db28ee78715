import numpy as np
import pytest

from vidgen.metrics.intervals import clustered_interval, difference_interval, mean_interval, wilson_interval


def test_differences_of_proportions_as_published() -> None:
    """Newcombe 1998, table II: 56/70 - 48/80, 9/10 - 3/10, 0/10 - 0/20."""
    assert difference_interval(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference_interval(9 / 10, 10, 3 / 10, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert difference_interval(0, 10, 0, 20) == pytest.approx((-0.1611, 0.2775), abs=5e-5)


def test_differences_are_antisymmetric() -> None:
    low, high = difference_interval(0.25, 8, 0.75, 12)
    assert difference_interval(0.75, 12, 0.25, 8) == pytest.approx((-high, -low))
    assert difference_interval(1.0, 10, 0.0, 10)[1] == 1.0
    assert difference_interval(0.0, 10, 0.0, 10) == pytest.approx(
        (-wilson_interval(0, 10)[1], wilson_interval(0, 10)[1])
    )


def test_groups_of_one_are_independent_values() -> None:
    values = [0.1, 0.4, 0.35, 0.8]
    assert clustered_interval(values, "abcd") == mean_interval(values) == clustered_interval(values)


def test_copies_of_a_value_tell_no_more_than_one() -> None:
    values = [0.1, 0.4, 0.35, 0.8]
    grouped = clustered_interval(np.repeat(values, 5), np.repeat(list("abcd"), 5).tolist())
    assert grouped.interval == pytest.approx(mean_interval(values).interval)
    assert grouped.mean == pytest.approx(np.mean(values)) and grouped.n == 20


def test_shares_without_spread_have_an_interval() -> None:
    assert clustered_interval([1.0] * 10, None, (0.0, 1.0)).interval == wilson_interval(1.0, 10)
    assert clustered_interval([0.0] * 10, [1] * 5 + [2] * 5, (0.0, 1.0)).interval == wilson_interval(0.0, 2)


def test_groups_of_the_same_mean_tell_no_more_than_their_values() -> None:
    values = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
    assert clustered_interval(values, [1, 1, 2, 2, 3, 3]).interval == pytest.approx(mean_interval(values).interval)
