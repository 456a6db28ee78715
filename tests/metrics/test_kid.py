"""Kernel distance: the peer's value, the population's on average, and intervals that hold it as often as they say."""

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.metrics.kid import jackknife_error, kernel_distance, polynomial_kernel, squared_mmd


def draw(seed: int, n: int, d: int = 1, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, std, (n, d))


def kernels(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    return polynomial_kernel(x, x), polynomial_kernel(x, y), polynomial_kernel(y, y)


def test_the_value_is_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    x, y = draw(0, 40, 7), draw(1, 40, 7, mean=0.3)
    assert squared_mmd(*kernels(x, y)) == pytest.approx(poly_mmd(torch.tensor(x), torch.tensor(y)).item(), rel=1e-9)


def test_the_mean_over_draws_is_the_populations_and_intervals_hold_it() -> None:
    # In one dimension (x y + 1)^3 has the features 1, x, x^2, x^3 with weights 1, 3, 3, 1, so that the population's
    # distance is that of these moments: of N(1/2, 1/4) and N(0, 1/4), 1/2, 1/4 and 1/8 + 3/8.
    truth = 3 * 0.5**2 + 3 * 0.25**2 + 0.5**2
    values, errors = [], []
    for k in range(300):
        parts = kernels(draw(2 * k, 60, mean=0.5, std=0.5), draw(2 * k + 1, 90, std=0.5))
        values.append(squared_mmd(*parts))
        errors.append(jackknife_error(*parts))
    values, errors = np.array(values), np.array(errors)
    assert abs(values.mean() - truth) < 3 * values.std() / 300**0.5
    assert 0.8 < np.sqrt(np.square(errors).mean()) / values.std() < 1.3
    assert 0.87 < (np.abs(values - truth) < 1.96 * errors).mean() < 0.99


def test_the_jackknife_is_leaving_out_one_after_the_other() -> None:
    x, y = draw(0, 6, 2), draw(1, 5, 2, mean=1.0)
    left = [[squared_mmd(*kernels(np.delete(x, i, 0), y)) for i in range(6)]]
    left.append([squared_mmd(*kernels(x, np.delete(y, i, 0))) for i in range(5)])
    variance = sum((len(v) - 1) * np.var(v) for v in left)
    assert jackknife_error(*kernels(x, y)) == pytest.approx(variance**0.5)


def test_the_floor_is_around_zero_and_another_distribution_above_it() -> None:
    real = draw(0, 120, 8)
    same, other = kernel_distance(real, draw(1, 60, 8)), kernel_distance(real, draw(2, 60, 8, mean=0.6))
    low, high = same.floor_range
    assert same.floor_n == 60 and low < 0.0 < high and abs(same.floor) < high
    assert low < same.distance < high and same.interval[0] < 0.0 < same.interval[1]
    assert other.distance > high and other.interval[0] > 0.0 and other.floor_range == same.floor_range


def test_scales_and_dead_features_do_not_matter() -> None:
    real, made = draw(0, 30, 4), draw(1, 20, 4, mean=0.5)
    plain = kernel_distance(real, made)
    moved = kernel_distance(100.0 * real + 7.0, 100.0 * made + 7.0)
    assert moved.distance == pytest.approx(plain.distance, rel=1e-6)
    dead = kernel_distance(np.pad(real, ((0, 0), (0, 4))), np.pad(made, ((0, 0), (0, 4))))
    assert np.isfinite(dead.distance)


@pytest.mark.parametrize(
    ("real", "made", "says"),
    [
        (draw(0, 5), draw(1, 5), "needs 6 real and 3 generated clips or more, got 5 and 5"),
        (draw(0, 9), draw(1, 2), "got 9 and 2"),
        (draw(0, 9, 2), draw(1, 9, 3), "real features are 2 wide and generated ones 3"),
        (draw(0, 9), np.full((9, 1), np.nan), "features are not finite"),
    ],
)
def test_what_cannot_be_compared_is_named(real, made, says) -> None:
    with pytest.raises(VidgenError, match=says):
        kernel_distance(real, made)
