"""What verbs print: JSON, tables, one-line summaries, and progress bars that stay away from files and pipes."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from vidgen.profiling.peak_memory import peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

LONG_LIST = 10_000
PATH_START = r"(?<![^\s('\"])"
ABSOLUTE_PATH = re.compile(rf"{PATH_START}/[^\s/]+/[^\s,;:'\")]*[^\s/,;:'\")]")
PIPE_WIDTH = 200  # columns of a table that goes to a file or a pipe


def to_json(report: dict[str, Any]) -> str:
    """Return a report as JSON. Raises ValueError for NaN and infinity, which JSON has not."""
    from vidgen.data.text_files import readable

    # long lists are written without line breaks, which take ten times as long
    indent = None if any(isinstance(part, list) and len(part) > LONG_LIST for part in report.values()) else 2
    text = json.dumps(report, ensure_ascii=False, indent=indent, allow_nan=False)
    # the name of a file may be no text, which only an escape can say
    return text if text.isascii() or readable(text) == text else json.dumps(report, indent=indent)


def print_json(report: dict[str, Any]) -> None:
    """Print a report as JSON."""
    print(to_json(report))


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write a report to a JSON file, all or nothing."""
    from vidgen.files.atomic import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(to_json(report) + "\n", "utf-8")


def note(line: str) -> None:
    """Print a remark beside the result: on stderr, where it does not mix with what is piped on."""
    print(line, file=sys.stderr, flush=True)


LAST_NOTES: list[str] = []  # remarks that wait for the end of a command that goes well: an error is one line


def note_at_end(line: str) -> None:
    """Print a remark once the command has done its work; an error leaves it out."""
    LAST_NOTES.append(line)


def print_last_notes() -> None:
    """Print the remarks that waited, each once."""
    for line in dict.fromkeys(LAST_NOTES):
        note(line)
    LAST_NOTES.clear()


def open_console() -> Console:
    """Return a console for tables, as wide as the terminal, or as PIPE_WIDTH."""
    from rich.console import Console

    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def shorten_paths(texts: Sequence[str]) -> list[str]:
    """Return texts with the absolute paths in them cut: to what follows the working folder where they lie in it, and
    else to what follows the folder that all of them have in common."""

    def cut(lines: Sequence[str], folder: str) -> list[str]:
        if folder == os.sep:
            return list(lines)
        prefix = re.compile(rf"{PATH_START}{re.escape(folder + os.sep)}(?=[^\s{os.sep}])")
        return [prefix.sub("", line) for line in lines]

    texts = cut(texts, os.getcwd())
    parents = {os.path.dirname(path) for text in texts for path in ABSOLUTE_PATH.findall(text)}
    parents = {folder for folder in parents if os.path.isdir(folder)}  # a label may look like a path
    return cut(texts, os.path.commonpath(parents) if parents else os.sep)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns whose name starts with ">" are numbers, set flush right."""
    from rich.table import Table

    title, *cells = shorten_paths([title, *(str(cell) for row in rows for cell in row)])
    table = Table()
    for name in columns:
        right = name.startswith(">")
        table.add_column(name.lstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    remaining = iter(cells)
    for row in rows:
        table.add_row(*islice(remaining, len(row)))
    console = open_console()
    console.print(title, style="bold", soft_wrap=True)  # as the table's own title it would be cut to the table's width
    console.print(table)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Yield a function (done, total=None) that moves a bar to a count. No bar where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total=None: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)


def describe_memory() -> str:
    """Return the peak memory as the end of a line; "" where the system does not say."""
    peak = peak_memory_mb()
    return "" if peak is None else f", peak memory {peak:.0f} MiB"


def note_dropped(dropped: list[dict[str, Any]]) -> None:
    """Print a remark for every clip that was left out, with the reason."""
    for drop in dropped:
        note(f"left out: {drop['path']}: {drop['reason']}")


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun: "1 clip", "2 clips"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_level(level: float | None) -> str:
    """Return a noise level as a cell of a table; "" for a layer without one."""
    return "" if level is None else f"{level:.2f}"


def note_one_group(rows: Sequence[Mapping[str, Any]]) -> None:
    """Say why rows have no interval, where they have none."""
    if any(row["ci"] is None for row in rows):
        note("no interval: all clips that are reported on are of one group; give clips of several")


def format_interval(interval: Sequence[float] | None, digits: int = 3) -> str:
    """Return an interval as a cell of a table; "-" where there is none."""
    return "-" if interval is None else f"{interval[0]:.{digits}f} - {interval[1]:.{digits}f}"
