"""Filters of clips by their quality: one line of a table each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vidgen.data.curation.quality import ClipQuality


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which clips stay; None filters nothing. Motion is in gray levels a frame, sharpness a variance of them."""

    min_motion: float | None = None
    max_motion: float | None = None
    min_sharpness: float | None = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    single_scene: bool = False
    drop_duplicates: bool = False

    def reasons(self, quality: ClipQuality) -> list[str]:
        """Return the names of the filters that a clip does not pass; duplicates are told by other clips, not by it."""
        failed = []
        for name, (column, passes) in FILTERS.items():
            limit = getattr(self, name)
            if limit is not None and not passes(getattr(quality, column), limit):
                failed.append(name)
        if self.single_scene and quality.cuts:
            failed.append("single_scene")
        return failed


def _at_least(value: float, limit: float) -> bool:
    return value >= limit


def _at_most(value: float, limit: float) -> bool:
    return value <= limit


# The name of a filter: what it looks at, and whether that passes.
FILTERS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "min_motion": ("motion", _at_least),
    "max_motion": ("motion", _at_most),
    "min_sharpness": ("sharpness", _at_least),
    "min_seconds": ("seconds", _at_least),
    "max_seconds": ("seconds", _at_most),
}
