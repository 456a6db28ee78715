import pytest

from vidgen.metrics.intervals import difference_interval, wilson_interval


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
