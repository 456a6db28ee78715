"""The entries of large files one by one, in the memory of one: lines, rows of tables, and values of JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from vidgen.data.annotations.report import ReadReport, WrongLayout
from vidgen.data.text_files import BYTE_ORDER_MARKS, readable
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import check_regular, load_json

CHUNK = 2**20  # letters that are read at a time
LONGEST_LINE = 2**26  # letters; also of a cell whose quote never ends
LONGEST_VALUE = 2**28  # letters of one value of JSON
FEW_KEYS = 100  # more than the objects have whose keys are known beforehand
CUT_LETTERS = 64  # before the end of what is held a number or an escape may be cut in two


@contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    """Open a text of any size and encoding, by its byte order mark, else UTF-8. Raises VidgenError for none."""
    try:
        check_regular(file)
        with file.open("rb") as head:
            start = head.read(4)
        encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8")
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        with file.open(encoding=encoding, errors=errors, newline="") as text:
            yield text
    except OSError as error:
        raise VidgenError(f"{file}: cannot be read: {error.strerror}; check the path and its permissions") from None


def iter_lines(file: Path) -> Iterator[tuple[str, str]]:
    """Yield ("line N", its text without its end) for every line that is not blank."""
    with open_text(file) as text:
        for number, line in enumerate(_bounded_lines(file, text), 1):
            if not line.isspace():
                yield f"line {number}", line.strip("\r\n")


def _bounded_lines(file: Path, text: TextIO) -> Iterator[str]:
    while line := text.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise WrongLayout("it has a line that is longer than any entry")
        yield line


def iter_json_lines(file: Path, report: ReadReport) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("line N", object) for every line of JSON; lines that are none are counted."""
    for where, line in iter_lines(file):
        with report.entry(where):
            try:
                value = load_json(line)
            except ValueError as error:
                raise VidgenError(f"not JSON ({error})") from None
            yield where, as_object(value)


def iter_table(file: Path, report: ReadReport, *columns: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ("line N", row) of a table with commas whose header names at least `columns`.

    Names are taken in small letters, their blanks as underscores. Rows of another length, and cells that never end,
    are counted. Raises WrongLayout for a header without the columns.
    """
    largest = csv.field_size_limit(LONGEST_LINE)  # Panda-70M writes lists of a whole video into one cell
    try:
        with open_text(file) as text:
            rows = csv.reader(_bounded_lines(file, text))
            names = ["_".join(name.casefold().split()) for name in next(rows, [])]
            if missing := [name for name in columns if name not in names]:
                raise WrongLayout(f"its header has no column {', '.join(missing)}")
            while True:
                where = f"line {rows.line_num + 1}"
                with report.entry(where):
                    cells = _next_row(rows)
                    if cells is None:
                        return
                    if not cells:
                        continue
                    if len(cells) != len(names):
                        raise VidgenError(f"{len(cells)} cells where {len(names)} belong")
                    yield where, {name: readable(cell) for name, cell in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise WrongLayout(f"its header is no row of CSV: {error}") from None
    finally:
        csv.field_size_limit(largest)


def _next_row(rows: Iterator[list[str]]) -> list[str] | None:
    """Return the cells of the next row, None after the last. Raises VidgenError for one that is malformed."""
    try:
        return next(rows, None)
    except csv.Error as error:
        raise VidgenError(f"not a row of CSV: {error}") from None


def iter_object(file: Path, most: int | None = None) -> Iterator[tuple[str, str, Any]]:
    """Yield ("entry N (key)", key, value) of the one object that a file of JSON holds, in its order.

    Raises WrongLayout for a file of anything else, or of more than `most` keys, and VidgenError where it is damaged.
    """
    with open_text(file) as text:
        stream = _JsonStream(file, text)
        if stream.peek() != "{":
            raise WrongLayout("it is no object of JSON")
        for number in stream.items("{", "}"):
            if most is not None and number > most:
                raise WrongLayout(f"its object has over {most} keys")
            key = stream.value()
            if not isinstance(key, str):
                stream.fail(f"key {number} is no text")
            stream.take(":")
            yield f"entry {number} ({readable(key)[:60]})", readable(key), stream.value()


def iter_list(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield ("entry N", value) of the one list that a file of JSON holds. Raises as `iter_object`."""
    with open_text(file) as text:
        stream = _JsonStream(file, text)
        if stream.peek() != "[":
            raise WrongLayout("it is no list of JSON")
        for number in stream.items("[", "]"):
            yield f"entry {number}", stream.value()


def as_object(value: Any) -> dict[str, Any]:
    """Return an object of JSON. Raises VidgenError for anything else."""
    if not isinstance(value, Mapping):
        raise VidgenError(f"a {type(value).__name__}, not an object")
    return dict(value)


def as_list(value: Any, name: str) -> list[Any]:
    """Return a list of JSON. Raises VidgenError, by its name, for anything else."""
    if not isinstance(value, list):
        raise VidgenError(f"its {name} is a {type(value).__name__}, not a list")
    return value


def as_pair(value: Any) -> list[Any]:
    """Return the two ends of a span. Raises VidgenError for anything else."""
    both = as_list(value, "span")
    if len(both) != 2:
        raise VidgenError(f"its span has {len(both)} ends, not two")
    return both


class _JsonStream:
    """Values of JSON out of a file, of which no more than the next one is held."""

    def __init__(self, file: Path, text: TextIO) -> None:
        self._file = file
        self._text = text
        self._decode = json.JSONDecoder().raw_decode
        self._held = ""
        self._at = 0
        self._has_ended = False

    def fail(self, reason: object) -> None:
        raise VidgenError(f"{self._file}: not JSON ({reason}); download it again")

    def peek(self) -> str:
        """Return the next letter that is not blank, without taking it; blank at the end."""
        while True:
            while self._at < len(self._held) and self._held[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._held) or not self._grow():
                return self._held[self._at : self._at + 1]

    def take(self, letter: str) -> None:
        if self.peek() != letter:
            self.fail(f"{letter!r} is wanted, and {self.peek()!r} stands there")
        self._at += 1

    def items(self, first: str, last: str) -> Iterator[int]:
        """Yield 1, 2, ... where each value between two brackets begins; the caller takes it."""
        self.take(first)
        number = 0
        while self.peek() != last:
            if number:
                self.take(",")
            number += 1
            yield number
        self.take(last)

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._held, self._at)
            except RecursionError:
                self.fail("nested too deep")
            except json.JSONDecodeError as error:
                is_damaged = error.pos < len(self._held) - max(CHUNK, CUT_LETTERS) and not error.msg.startswith(
                    "Unterminated"
                )
                if is_damaged or not self._grow():
                    self.fail(error.msg)
                continue
            length = end - self._at
            if end + CUT_LETTERS < len(self._held) or not self._grow():
                self._at += length
                return value

    def _grow(self) -> bool:
        """Read on, twice as much as is held, and let go of what was taken; False at the end of the file."""
        if self._has_ended:
            return False
        self._held = self._held[self._at :]
        self._at = 0
        if len(self._held) > LONGEST_VALUE:
            self.fail("one value is longer than any entry")
        more = self._text.read(max(CHUNK, len(self._held)))
        self._has_ended = not more
        self._held += more
        return bool(more)
