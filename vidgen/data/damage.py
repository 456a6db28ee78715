"""Damage of a clip's file: what every reader counts and names, and refuses unless it is allowed."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from vidgen.errors import VideoError

ADVICE = "copy or encode it again, or take what is there with --allow-damaged (allow_damaged=True)"
EVEN = 0.95  # a stream is even where so many of its steps are of one frame, and it has so many at least
SHORTEST = 8


@dataclass
class Damage:
    """What is wrong with a file, as far as it has been read; false while nothing is.

    frames: how many frames the decoder flagged or refused, and when the first of them was due, in seconds.
    missing: how many frames the container promises that did not come.
    remarks: what is wrong with the file as a whole, such as an end that is not there.
    """

    frames: int = 0
    first: float = 0.0
    missing: int = 0
    remarks: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.frames or self.missing or self.remarks)

    def __str__(self) -> str:
        parts = list(dict.fromkeys(self.remarks))
        if self.missing:
            parts.insert(0, f"{self.missing} frame{'s are' if self.missing > 1 else ' is'} missing")
        if self.frames:
            plural = "s are" if self.frames > 1 else " is"
            parts.insert(0, f"{self.frames} frame{plural} flagged damaged by the decoder, from {self.first:.2f} s on")
        return "; ".join(parts)

    def update(self, other: "Damage") -> None:
        """Add what another reading of the file told."""
        self.first = min(part.first for part in (self, other) if part.frames) if self.frames or other.frames else 0.0
        self.frames += other.frames
        self.missing += other.missing
        self.remarks += other.remarks

    def add_frame(self, time: float) -> None:
        """Count a frame that the decoder flagged or refused, due at `time` seconds."""
        self.first = min(self.first, time) if self.frames else time
        self.frames += 1


def damage_error(path: Path, count: int, seconds: float, reason: str) -> VideoError:
    """Return the error for a file that breaks after `count` frames, which reach to `seconds`."""
    if count == 0:
        return VideoError(f"{path}: no frame decodes: {reason}; copy or encode the file again")
    plural = "s" * (count > 1)
    return VideoError(f"{path}: damaged: {count} frame{plural} decoded (to {seconds:.2f} s), then {reason}; {ADVICE}")


class EvenSteps:
    """Counts frames that an even stream lacks: where the next frame comes later than the last one ends.

    A stream whose steps are not those of its declared `rate` is uneven on purpose and lacks none; nor does one in which
    the frame before a gap says that it lasts so long. Times are rounded to `tick` seconds.
    """

    def __init__(self, rate: float, tick: float):
        self._rate = rate
        self._slack = 1.1 * tick * rate + 0.05
        self._last = self._end = math.nan
        self._steps = self._even = self._lacking = 0

    def add(self, time: float, end: float) -> None:
        """Add a frame that is shown from `time` until `end`, in seconds."""
        step = (time - self._last) * self._rate
        if step == step:  # there is one before it
            self._steps += 1
            self._even += abs(step - 1) <= self._slack
            if step > 1.5 and (time - self._end) * self._rate > 0.5:
                self._lacking += round(step - 1)
        self._last = time
        self._end = end

    @property
    def missing(self) -> int:
        """Return how many frames are lacking."""
        return self._lacking if self._steps >= SHORTEST and self._even >= EVEN * self._steps else 0
