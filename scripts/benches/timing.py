"""Times of several contestants in one run, in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The seconds of each round of one contestant, in order."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The interquartile range, in seconds; 0 for a single round."""
        low, high = quartiles(self.seconds)
        return high - low


def quartiles(values: tuple[float, ...]) -> tuple[float, float]:
    """The lower and upper quartile, straight between neighbouring values; a single value is both."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def alternate(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    settle: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Times every run once a round, after `warmup` untimed rounds; each round begins with the next of them.

    settle: waits until the device is done; part of the time. Raises ValueError for no rounds or no runs.
    """
    if rounds < 1 or not runs:
        raise ValueError(f"{rounds} rounds of {len(runs)} runs time nothing")
    names = list(runs)
    for _ in range(warmup):
        for name in names:
            runs[name]()
    settle()
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = clock()
            runs[name]()
            settle()
            taken[name].append(clock() - started)
    return {name: Timing(seconds=tuple(seconds)) for name, seconds in taken.items()}


def ratio_of(ours: Timing, peer: Timing) -> float:
    """The peer's median time over ours: above 1, ours is faster."""
    return peer.median / ours.median


def ratio_quartiles(ours: Timing, peer: Timing) -> tuple[float, float]:
    """The quartiles of peer / ours, round by round."""
    return quartiles(tuple(b / a for a, b in zip(ours.seconds, peer.seconds, strict=True)))
