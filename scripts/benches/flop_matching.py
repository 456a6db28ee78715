"""Widths of networks that match in FLOPs, and the memory of their tensors, counted on `meta` without computing."""

from __future__ import annotations

import math
from collections.abc import Callable

from vidgen.profiling.live_memory import LiveBytes

TOLERANCE = 0.1  # of the FLOPs: what counts as matched
STEPS = (16, 8, 4, 2, 1)  # widths that are multiples of the first are kindest to the hardware
START = 32


def count_bytes(work: Callable[[], object]) -> int:
    """Return the most bytes of tensors that `work` makes and holds at one time."""
    with LiveBytes(scratch=True) as live:
        work()
    return live.peak


def match_width(count: Callable[[int], float], target: float, *, tolerance: float = TOLERANCE) -> int:
    """Return the width whose count is within `tolerance` of `target`; the roundest one, or where none is, the nearest.

    count: FLOPs by width, growing with it about as its square. Raises ValueError for a target of nothing.
    """
    if target <= 0:
        raise ValueError(f"there is nothing to match in {target} FLOPs")
    counts: dict[int, float] = {}

    def distance(width: int) -> float:
        if width not in counts:
            counts[width] = count(width)
        return abs(math.log(counts[width] / target))

    guess = float(START)
    for _ in range(3):  # of a square law each step is right at once; where lower powers count too, so soon after
        width = max(1, round(guess))
        distance(width)
        guess = width * math.sqrt(target / counts[width])
    for step in STEPS:
        around = {step * max(1, math.floor(guess / step) + k) for k in (0, 1)}
        best = min(sorted(around), key=distance)
        if distance(best) <= math.log1p(tolerance):
            return best
    return min(counts, key=distance)


def count_long(count: Callable[[int], float], length: int) -> float:
    """Return `count(length)`, by the parabola through the counts of short lengths where that is exact.

    Convolutions grow straight with a clip's length and attention over time with its square, once there is more than a
    first latent frame. A further count is compared with the parabola; where it is off, `length` itself is counted.
    """
    if length <= 5:
        return count(length)
    two, three, four = (count(n) for n in (2, 3, 4))
    bend = four - 2 * three + two

    def parabola(n: int) -> float:
        return two + (n - 2) * (three - two) + (n - 2) * (n - 3) / 2 * bend

    return parabola(length) if math.isclose(count(5), parabola(5), rel_tol=1e-9) else count(length)
