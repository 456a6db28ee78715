"""The first and last lines of every plot: a figure that needs no display, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vidgen.files.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches, drawn without a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a .png, .svg or .pdf. Raises VidgenError where it cannot be written there."""
    with atomic_write(path) as aside:
        figure.savefig(aside, dpi=150)
