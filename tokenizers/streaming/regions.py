"""Regions of a tensor: intervals of positions in time, height and width."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The positions `first` to `last`, both included, of one axis."""

    first: int
    last: int

    def before_convolution(self, kernel: int, stride: int, padding: int) -> Interval:
        """Return the input that a convolution with `padding` positions in front reads for this output.

        Araujo et al. 2019, "Computing receptive fields", eq. 2, applied to both ends.
        """
        return Interval(first=self.first * stride - padding, last=self.last * stride - padding + kernel - 1)

    def coarser(self, factor: int) -> Interval:
        """Return the positions of which these are parts, `factor` of them in each."""
        return Interval(first=self.first // factor, last=self.last // factor)

    def finer(self, factor: int) -> Interval:
        """Return the positions that make these up, `factor` to one."""
        return Interval(first=self.first * factor, last=self.last * factor + factor - 1)

    def windows(self, size: int, offset: int) -> Interval:
        """Return all positions of the windows that hold these, with borders at `offset` and every `size` from there."""
        first, last = ((end - offset) // size * size + offset for end in (self.first, self.last))
        return Interval(first=first, last=last + size - 1)


@dataclass(frozen=True, kw_only=True)
class Region:
    """Positions on the three axes; None is all of an axis."""

    t: Interval | None
    h: Interval | None
    w: Interval | None


EVERYTHING = Region(t=None, h=None, w=None)


def union(regions: Iterable[Region]) -> Region:
    """Return the smallest region that holds all of them."""

    def join(intervals: list[Interval | None]) -> Interval | None:
        if None in intervals:
            return None
        return Interval(first=min(i.first for i in intervals), last=max(i.last for i in intervals))

    regions = list(regions)
    return Region(t=join([r.t for r in regions]), h=join([r.h for r in regions]), w=join([r.w for r in regions]))
