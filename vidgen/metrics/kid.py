"""KID, the kernel distance between features of generated and of real clips, without bias at any number of clips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vidgen.errors import VidgenError

SMALLEST = 3  # rows of a set: its unbiased estimate takes two, and the jackknife leaves one out
SPLITS = 200


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """The squared distance with its 95% interval, and its floor: the distance of real clips from real ones, as the mean
    over random splits into sets of `floor_n` each (0 but for chance), and the range of 95% of the splits."""

    distance: float
    interval: tuple[float, float]
    floor: float
    floor_range: tuple[float, float]
    floor_n: int
    n_real: int
    n_generated: int


def polynomial_kernel(x: Float[np.ndarray, "m d"], y: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m n"]:
    """Return the kernel matrix (x y / d + 1)^3 (Binkowski et al. 2018, section 4)."""
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def squared_mmd(xx: Float[np.ndarray, "m m"], xy: Float[np.ndarray, "m n"], yy: Float[np.ndarray, "n n"]) -> float:
    """Return the unbiased estimate of the squared maximum mean discrepancy from the three kernel matrices (Gretton et
    al. 2012, eq. 3). Negative by chance where the distributions are the same."""
    m, n = xy.shape
    own = (xx.sum() - np.trace(xx)) / (m * (m - 1)) + (yy.sum() - np.trace(yy)) / (n * (n - 1))
    return float(own - 2.0 * xy.mean())


def jackknife_error(xx: Float[np.ndarray, "m m"], xy: Float[np.ndarray, "m n"], yy: Float[np.ndarray, "n n"]) -> float:
    """Return the standard error of `squared_mmd` by the jackknife: leaving out one row of either set after the other
    (Efron & Stein 1981)."""
    variance = 0.0
    for own, cross, other in ((xx, xy, yy), (yy, xy.T, xx)):
        m, n = cross.shape
        rows = own.sum(1) - np.diag(own)
        inner = (rows.sum() - 2.0 * rows) / ((m - 1) * (m - 2))
        outer = (cross.sum() - cross.sum(1)) / ((m - 1) * n)
        rest = (other.sum() - np.trace(other)) / (n * (n - 1))
        values = inner + rest - 2.0 * outer
        variance += (m - 1) / m * np.square(values - values.mean()).sum()
    return float(variance**0.5)


def kernel_distance(
    real: Float[np.ndarray, "m d"], generated: Float[np.ndarray, "n d"], *, splits: int = SPLITS, seed: int = 0
) -> KernelDistance:
    """Return the KID (Binkowski et al. 2018) of two sets of features, a row a clip, with interval and floor.

    Every feature is first brought to mean 0 and standard deviation 1 of the real set: the kernel is made for features
    of that scale, and layers differ in theirs. The interval is 1.96 jackknife errors wide each way, and a little short
    where clips are few (90% instead of 95% for 60 of a Gaussian against 90); near 0, where the estimate is not normal,
    the floor says more: distances between random disjoint parts of the real set, as large as the generated one where
    there are real clips enough.
    Raises VidgenError for fewer than 6 real or 3 generated rows, and for features of another width or not finite.
    """
    if len(real) < 2 * SMALLEST or len(generated) < SMALLEST:
        raise VidgenError(
            f"a kernel distance needs {2 * SMALLEST} real and {SMALLEST} generated clips or more, "
            f"got {len(real)} and {len(generated)}"
        )
    if real.shape[1] != generated.shape[1]:
        raise VidgenError(
            f"real features are {real.shape[1]} wide and generated ones {generated.shape[1]}; take one layer"
        )
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise VidgenError("features are not finite; leave such clips out")
    mean, std = real.mean(0, dtype=np.float64), real.std(0, dtype=np.float64)
    x, y = ((values - mean) / np.where(std > 0.0, std, 1.0) for values in (real, generated))
    xx, xy, yy = polynomial_kernel(x, x), polynomial_kernel(x, y), polynomial_kernel(y, y)
    distance = squared_mmd(xx, xy, yy)
    error = jackknife_error(xx, xy, yy)
    size = min(len(generated), len(real) // 2)
    rng = np.random.default_rng(seed)
    floors = []
    for _ in range(splits):
        order = rng.permutation(len(real))
        first, second = order[:size], order[size : 2 * size]
        floors.append(squared_mmd(xx[np.ix_(first, first)], xx[np.ix_(first, second)], xx[np.ix_(second, second)]))
    low, high = np.quantile(floors, [0.025, 0.975])
    return KernelDistance(
        distance=distance,
        interval=(distance - 1.96 * error, distance + 1.96 * error),
        floor=float(np.mean(floors)),
        floor_range=(float(low), float(high)),
        floor_n=size,
        n_real=len(real),
        n_generated=len(generated),
    )
