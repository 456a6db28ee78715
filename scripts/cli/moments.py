"""Times in a clip, as they are typed on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil

from vidgen.errors import VidgenError


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A time in a clip as it was typed: in seconds, or as the number of a frame."""

    text: str
    seconds: float | None = None
    frame: int | None = None

    def at(self, fps: float) -> int:
        """Return the first frame at or after it."""
        # A thousandth of a frame of slack, for times such as 0.1 that fall on a frame but for rounding.
        return self.frame if self.frame is not None else max(0, ceil(self.seconds * fps - 1e-3))


def parse_moment(text: str | None, option: str) -> Moment | None:
    """Return the moment of "420", "7:00" or "1:02:03.5" (seconds) or "10500f" (a frame). VidgenError for others."""
    if text is None:
        return None
    if re.fullmatch(r"\d{1,12}f", text.strip()):
        return Moment(text=text, frame=int(text.strip()[:-1]))
    match = re.fullmatch(r"(?:(?:(\d{1,6}):)?(\d{1,6}):)?(\d{1,9}(?:\.\d*)?|\.\d+)", text.strip())
    if not match:
        raise VidgenError(f"{option} {text!r} is not a time; give seconds, 7:00, or frames such as 120f")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return Moment(text=text, seconds=3600 * hours + 60 * minutes + seconds)


def format_time(seconds: float) -> str:
    """Return seconds as minutes and seconds to a tenth, with hours where there are any: 7:03.5, 1:02:03.5."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02d}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"
    return f"{hours}:{clock}" if hours else clock
