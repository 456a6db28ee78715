"""Rows of manifests: CSV, JSONL, JSON, Parquet and lists of paths, in any encoding, by any usual names of columns."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from vidgen.data.text_files import decode_text, readable
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import TABLE_BYTES, load_shape, read_bytes
from vidgen.files.json_lines import parse_json_lines

MANIFEST_SUFFIXES = {".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt"}
PATH_COLUMNS = ("path", "file_name", "video", "video_path", "media_path", "file")
CAPTION_COLUMNS = ("caption", "text", "prompt")
NUMBER_COLUMNS = ("fps", "start", "duration", "end")
# A column's name, in any case, and the part of a clip that it is; of several for one part the first that has a value.
PARTS = {
    **dict.fromkeys(PATH_COLUMNS, "path"),
    **dict.fromkeys(CAPTION_COLUMNS, "caption"),
    **{name: name for name in ("label", *NUMBER_COLUMNS)},
}
PROMPT_LISTS = ("prompts.txt", "prompt.txt", "captions.txt")  # beside a list of clips, a line each
CLIP_LIST = "videos.txt"
MAX_SECONDS = 1e9
LONGEST_NAME = 255  # bytes of a file's name, and letters of a path below its manifest, as file systems have them
LONGEST_PATH = 3000


class Line(NamedTuple):
    """Where a row stands, which is put into words for errors alone."""

    file: Path
    number: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.number}"


Row = tuple[
    Line, dict[str, Any], dict[str, Any]
]  # where it stands, what is known by `PARTS`, other columns by their names


def read_rows(manifest: Path) -> Iterator[Row]:
    """Yield (where, parts, other columns) for every row of a manifest that has a path; blank cells are left out.

    Raises VidgenError, naming the line, for a row that is malformed, or does not name a file.
    """
    reader = READERS.get(manifest.suffix.lower(), _json_lines)
    for line, row in reader(manifest):
        where = Line(manifest, line)
        parts, others = sort_cells(row)
        if "path" not in parts:
            known = [name for part, name in _columns(tuple(row)) if part == "path"]
            listing = readable(", ".join(map(str, row)))[:200] or "none"
            reason = f"no {', '.join(PATH_COLUMNS)} in its columns ({listing})" if not known else f"{known[0]} is blank"
            raise VidgenError(f"{where}: {reason}; name the clip's file")
        _check_path(parts["path"], where)
        yield where, parts, others


def sort_cells(row: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a row says of the parts of `PARTS`, and its other columns by their names, without blank cells."""
    parts: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for part, name in _columns(tuple(row)):
        value = row[name]
        if value is None or value == "":
            continue
        if part is None or part in parts:
            others[name] = value
        else:
            parts[part] = value
    return parts, others


@lru_cache(maxsize=256)
def _columns(names: tuple[str, ...]) -> tuple[tuple[str | None, str], ...]:
    """Return (part, column that says it), in the order of `PARTS`, then (None, another) for the others."""
    by_name = {name: name.strip().casefold() for name in names}
    known = [(part, name) for column, part in PARTS.items() for name, plain in by_name.items() if plain == column]
    others = [(None, name) for name, plain in by_name.items() if plain not in PARTS]
    return (*known, *others)


def _check_path(value: object, where: object) -> None:
    if not isinstance(value, str):
        raise VidgenError(f"{where}: its path is a {type(value).__name__}, not text; name the clip's file")
    if len(value) > LONGEST_NAME // 4 and any(  # of up to four bytes a letter
        len(part.encode("utf-8", "surrogatepass")) > LONGEST_NAME for part in value.split("/")
    ):
        raise VidgenError(f"{where}: its path {readable(value)[:60]!r}... is longer than a file's can be; shorten it")
    if len(value) > LONGEST_PATH:
        raise VidgenError(f"{where}: its path has {len(value)} letters, more than a file's can have; shorten it")
    if "\0" in value or (
        not value.isascii() and any(0xD800 <= ord(c) < 0xDC80 or 0xDCFF < ord(c) < 0xE000 for c in value)
    ):
        raise VidgenError(
            f"{where}: its path {readable(value)[:60]!r} holds what no file name can; name the clip's file"
        )


def parse_number(value: object, name: str, where: object) -> float:
    """Return a rate, or seconds, which may be a time code (1:02.5). Raises VidgenError for what is no such number."""
    if type(value) is float and 0 < value < MAX_SECONDS:
        return value
    try:
        number = _seconds(value) if name != "fps" and isinstance(value, str) and ":" in value else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    least = number >= 0 if name == "start" else number > 0
    if isinstance(value, bool) or not (least and number < MAX_SECONDS):
        raise VidgenError(f"{where}: {name} is {_short(value)}; give a positive number")
    return number


def _seconds(code: str) -> float:
    """Return the seconds of a time code; NaN for more than hours, minutes and seconds, or 60 of them."""
    parts = [float(part) for part in code.split(":")]
    whole = len(parts) <= 3 and all(0 <= part < 60 for part in parts[1:])
    return sum(part * 60**power for power, part in enumerate(reversed(parts))) if whole else math.nan


def as_text(value: object) -> str | None:
    """Return a cell as text that any file can hold: what is no text as JSON. None for None."""
    if value is None:
        return None
    return readable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _short(value: object) -> str:
    text = readable(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read(manifest: Path) -> str:
    try:
        return decode_text(read_bytes(manifest, TABLE_BYTES))
    except OSError as error:
        raise VidgenError(f"{manifest}: cannot be read: {error.strerror}; check its permissions") from None


def _separated(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield rows of cells between commas, or between the semicolons or tabs that make the header name a path."""
    text = _read(manifest)
    head = text.lstrip("\r\n").split("\n", 1)[0].strip("\r")
    delimiter = ","
    for choice in ",;\t":
        if any(cell.strip('" ').casefold() in PATH_COLUMNS for cell in head.split(choice)):
            delimiter = choice
            break
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    try:
        for cells in reader:
            if not cells:
                continue
            if columns:
                if len(cells) != len(columns):
                    raise VidgenError(
                        f"{manifest}, line {reader.line_num}: {len(cells)} cells, and the header has {len(columns)} "
                        "columns; quote cells that hold a separator, and end rows with blank ones"
                    )
                yield reader.line_num, dict(zip(columns, cells, strict=True))
                continue
            columns = cells
            named = [name for name in columns if name.strip()]
            if twice := next((name for name in named if named.count(name) > 1), None):
                raise VidgenError(f"{manifest}: its header has {_short(twice)} twice; name each column once")
            if len(named) < len(columns):  # pandas writes its row numbers so
                columns = [name if name.strip() else f"column {i}" for i, name in enumerate(columns, 1)]
    except csv.Error as error:
        raise VidgenError(f"{manifest}, line {reader.line_num}: {error}; save it as plain CSV") from None


def _json_lines(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    return parse_json_lines(_read(manifest), manifest)


def _json_list(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of one list, numbered from 1."""
    for number, row in enumerate(load_shape(_read(manifest), list, manifest), 1):
        if not isinstance(row, dict):
            raise VidgenError(f"{manifest}, line {number}: {type(row).__name__}, not an object; one object a clip")
        yield number, row


def _parquet(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of a table, in the memory of one group of them."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise VidgenError(
            f"{manifest}: reading Parquet takes pyarrow; `pip install 'vidgen[export]'`, or save the table as CSV"
        ) from None
    number = 0
    try:
        with ParquetFile(manifest) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise VidgenError(f"{manifest}: not a table of Parquet ({reason}); write it again") from None


def _listed(manifest: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield a path a line, or a path and a number, its label; `videos.txt` has its captions in a list beside it."""
    lines = _lines(manifest)
    captions = next((manifest.with_name(name) for name in PROMPT_LISTS if manifest.with_name(name).is_file()), None)
    prompts: list[str] = [""] * len(lines)
    if manifest.name == CLIP_LIST and captions is not None:
        prompts = _lines(captions)
        if len(prompts) != len(lines):
            raise VidgenError(
                f"{captions} has {len(prompts)} lines, and {manifest.name} {len(lines)}; write one of each for a clip"
            )
    for number, (line, prompt) in enumerate(zip(lines, prompts, strict=True), 1):
        path, blank, label = line.rpartition(" ")
        is_labeled = bool(blank) and label.isdecimal()
        yield number, {"path": path, "label": label} if is_labeled else {"path": line, "caption": prompt}


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in _read(file).rstrip().split("\n")]


READERS = {
    ".csv": _separated,
    ".tsv": _separated,
    ".jsonl": _json_lines,
    ".json": _json_list,
    ".parquet": _parquet,
    ".txt": _listed,
}
