"""Lines of JSON (JSONL): the one way to write and to read them, whatever stands in their texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.bounded_files import TABLE_BYTES, load_json, read_bytes

CutShort = Literal["refuse", "last", "any"]  # which lines may be damaged, as those that a killed run was writing are


def json_line(value: Any) -> str:
    """Return plain data as one line of JSON with its line end.

    Letters of all languages stay as they are. A line with what no reader agrees on (separators that some take for line
    ends, halves of surrogate pairs) is written in escapes.
    """
    text = json.dumps(value, ensure_ascii=False)
    return f"{text if text.isprintable() else json.dumps(value)}\n"


def parse_json_lines(
    text: str, name: object, *, cut_short: CutShort = "refuse"
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of text; blank lines are passed over.

    Lines end with a line feed and nothing else: JSON allows any other separator within its texts. `name` is the file
    that errors name. cut_short: a damaged line is passed over if it is the "last" one and has no end, or "any" one.

    Raises VidgenError for a line that is not an object of JSON.
    """
    lines = text.split("\n")
    decode = json.JSONDecoder().raw_decode  # half the time of `load_json`
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        try:
            value, end = decode(line)
        except (ValueError, RecursionError):
            end = -1
        try:
            value = value if end == len(line) else load_json(line)
        except ValueError as error:
            if cut_short == "any" or (cut_short == "last" and number == len(lines)):
                continue
            raise VidgenError(f"{name}, line {number}: not JSON ({error}); one object a line") from None
        if not isinstance(value, dict):
            raise VidgenError(f"{name}, line {number}: {type(value).__name__}, not an object; one object a line")
        yield number, value


def read_json_lines(path: Path, *, cut_short: CutShort = "refuse") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a file in UTF-8; see `parse_json_lines`. Raises VidgenError, OSError."""
    text = read_bytes(path, TABLE_BYTES).decode("utf-8", "replace")
    yield from parse_json_lines(text, path, cut_short=cut_short)


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a line of JSON for each of `rows`, all or nothing. Raises WriteError."""
    text = "".join(map(json_line, rows))
    with atomic_write(path) as target:
        target.write_text(text, encoding="utf-8")
