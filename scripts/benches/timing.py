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
        """The median, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """The interquartile range, in seconds; 0 for a single round."""
        low, high = quartiles(self.seconds)
        return high - low


def quartiles(values: tuple[float, ...]) -> tuple[float, float]:
    """Return the lower and upper quartile, linear between neighboring values; a single value is both."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def processor_clock(device: str) -> tuple[Callable[[], float], str]:
    """Return the clock of what runs on a device, and its name: of the processor on a CPU, which other work does not
    change, and of the wall on a GPU."""
    return (time.perf_counter, "wall") if device.startswith("cuda") else (time.process_time, "processor")


def alternate(
    runs: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    warmup: int = 1,
    settle: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Time every run once a round, after `warmup` untimed rounds; each round begins with the next of them.

    settle: waits until the device is done; part of the time. Raises ValueError for no rounds or no runs.
    """
    if rounds < 1 or not runs:
        raise ValueError(f"{rounds} rounds of {len(runs)} runs time nothing")
    names = list(runs)
    for _ in range(warmup):
        for name in names:
            runs[name]()
    settle()
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            started = clock()
            runs[name]()
            settle()
            times[name].append(clock() - started)
    return {name: Timing(seconds=tuple(seconds)) for name, seconds in times.items()}


def divide_timing(timing: Timing, count: float) -> Timing:
    """Return the time of one of the `count` equal parts of a run."""
    return Timing(seconds=tuple(seconds / count for seconds in timing.seconds))


def ratio_of(ours: Timing, peer: Timing) -> float:
    """Return the peer's median time over ours: above 1, ours is faster."""
    return peer.median / ours.median


def ratio_quartiles(ours: Timing, peer: Timing) -> tuple[float, float]:
    """Return the quartiles of peer / ours, round by round."""
    return quartiles(tuple(b / a for a, b in zip(ours.seconds, peer.seconds, strict=True)))
