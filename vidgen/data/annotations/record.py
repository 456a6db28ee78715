"""What an annotation says of a video, in whatever layout it came, and the checks that every reader shares."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen.data.folders import SPLITS
from vidgen.data.manifest_rows import LONGEST_NAME, parse_number
from vidgen.data.text_files import readable
from vidgen.errors import VidgenError

SPAN_SLACK = 1.0  # seconds that a span may pass the end of its video, as rounded durations make it

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)")


class SpanError(VidgenError):
    """A span that ends before it starts, or lies outside of its video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A labeled box in one frame: its time in seconds, and corners as fractions of width and height, 0 to 1 from the
    upper left. person tells who is in it, the same in every frame, where the layout says so."""

    time: float
    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    person: str | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.x1 < self.x2 <= 1 and 0 <= self.y1 < self.y2 <= 1):
            raise VidgenError(f"its box {self.x1:g}, {self.y1:g}, {self.x2:g}, {self.y2:g} has no place in a frame")


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """What is said of a video, or of one span of it.

    Args:
        video: Its id or file name; `start` and `end` count from its beginning.
        aliases: Other names that the same file goes by.
        clip: The name of the file that holds just this span, for data sets whose spans are handed out cut.
        captions: Sentences on it, the first one foremost.
        labels: Classes that it is of.
        start: Where the span starts, in seconds; None for the whole video.
        end: Where it ends, in seconds; None for the whole video.
        boxes: Labeled boxes within the span.
        split: "train", "validation", "test", or as the file names it; None where it does not say.
        extra: What else the layout knows, by its own names.
    """

    video: str
    aliases: tuple[str, ...] = ()
    clip: str | None = None
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    start: float | None = None
    end: float | None = None
    boxes: tuple[Box, ...] = ()
    split: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.video.strip():
            raise VidgenError("it names no video")
        if (self.start is None) != (self.end is None):
            raise SpanError("its span has one end only")
        if self.start is not None and not 0 <= self.start < self.end < math.inf:
            raise SpanError(f"its span from {self.start:g} to {self.end:g} s is reversed, or none")


def parse_span(start: Any, end: Any, duration: Any = None) -> tuple[float, float]:
    """Return (start, end) in seconds, of numbers or time codes (1:02.5).

    An end that passes `duration` by up to `SPAN_SLACK` is taken back to it. Raises SpanError for a span that is
    reversed, empty or outside of the video, and VidgenError for what is no time.
    """
    first = _parse_seconds(start, "start")
    last = _parse_seconds(end, "end")
    if last <= first:
        raise SpanError(f"its span from {first:g} to {last:g} s is {'empty' if last == first else 'reversed'}")
    if duration is None or duration == "":
        return first, last
    length = parse_number(duration, "duration", "its video")
    if first >= length or last > length + SPAN_SLACK:
        raise SpanError(f"its span from {first:g} to {last:g} s is outside of the video's {length:g} s")
    return first, min(last, length)


def _parse_seconds(value: Any, name: str) -> float:
    try:
        return parse_number(value, name, "its span")
    except VidgenError as error:
        is_number = type(value) in (int, float) or (isinstance(value, str) and NUMBER.fullmatch(value.strip()))
        raise SpanError(error) if is_number else error from None


def parse_text(value: Any, name: str) -> str:
    """Return a text on one line. Raises VidgenError, by its name, for what is none, or blank."""
    if not isinstance(value, str) or not value.strip():
        raise VidgenError(f"its {name} is {'blank' if value in (None, '') or isinstance(value, str) else 'no text'}")
    return readable(" ".join(value.split()))


def parse_id(value: Any, name: str = "video") -> str:
    """Return the name of a video, which some files write as a number. Raises VidgenError for what is none."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    text = parse_text(str(value) if is_number else value, name)
    if "\0" in text or len(text.encode()) > LONGEST_NAME:
        raise VidgenError(f"its {name} {text[:40]!r} is no name of a file")
    return text


def name_split(name: object) -> str | None:
    """Return the usual name of a split, or the file's own; None for none."""
    text = str(name).strip() if name is not None else ""
    return SPLITS.get(text.lower(), text) or None


def split_in_name(file: Path) -> str | None:
    """Return the split that a file's name speaks of, as train_data.json does; None for none, or for several."""
    words = re.findall("[a-z]+", file.stem.lower())
    splits = {SPLITS[word] for word in (word.removesuffix("list") for word in words) if word in SPLITS}
    return splits.pop() if len(splits) == 1 else None


def keep_cells(row: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """Return the cells of a row that are neither blank nor named among the others."""
    return {name: value for name, value in row.items() if name not in others and value not in (None, "")}
