"""What verbs print: JSON, tables, one-line summaries, and progress bars that stay away from files and pipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vidgen.profiling.peak_memory import peak_memory_mb

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.console import Console

PIPE_WIDTH = 200  # columns of a table that goes to a file or a pipe


def print_json(report: dict[str, Any]) -> None:
    print(json.dumps(report, ensure_ascii=False, indent=2, allow_nan=False))


def write_report(report: dict[str, Any], path: Path) -> None:
    """The same as a file, all or nothing."""
    from vidgen.checkpoints.atomic import atomic_write

    with atomic_write(path) as aside:
        aside.write_text(json.dumps(report, ensure_ascii=False, indent=2, allow_nan=False) + "\n", "utf-8")


def note(line: str) -> None:
    """A remark beside the result: on stderr, where it does not mix with what is piped on."""
    print(line, file=sys.stderr, flush=True)


def open_console() -> Console:
    from rich.console import Console

    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; columns whose name starts with ">" are numbers, set flush right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    for name in columns:
        right = name.startswith(">")
        table.add_column(name.lstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    open_console().print(table)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Yields a function (done, total=None) that moves the bar to a count. No bar where stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total=None: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total=None: bar.update(task, completed=done, total=total)


def describe_memory() -> str:
    peak = peak_memory_mb()
    return "" if peak is None else f", peak memory {peak:.0f} MiB"


def settings_used(scheduler: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a call as they were used: those that are None are the scheduler's own of that name."""
    return {name: getattr(scheduler, name) if value is None else value for name, value in settings.items()}
