"""A contact sheet of neighbours: a query a line, what it found to its right, hits framed green and others red."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from vidgen.checkpoints.atomic import atomic_write

if TYPE_CHECKING:
    from vidgen.representations.bank import BankRow, FeatureBank

SIDE = 0.8  # inches that a frame is wide
HIT, MISS, PLAIN = "limegreen", "crimson", "black"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """Some frames of a clip, the text above them, and whether it is right (None: no matter of right and wrong)."""

    frames: UInt8[np.ndarray, "t h w 3"]
    text: str
    hit: bool | None = None


def draw_sheet(lines: Sequence[Sequence[Tile]], title: str, path: Path) -> None:
    """Writes a .png, .svg or .pdf of lines of tiles. The first of a line is the query, its text in bold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns, (count, height, width, _) = max(len(line) for line in lines), lines[0][0].frames.shape
    each = SIDE * count
    figure = Figure(figsize=(each * columns, 0.4 + (SIDE * height / width + 0.3) * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=8)
    grid = figure.subplots(len(lines), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, line in zip(grid, lines, strict=True):
        for number, (axes, tile) in enumerate(zip(row, line, strict=False)):
            colour = PLAIN if tile.hit is None else HIT if tile.hit else MISS
            axes.set_axis_on()
            axes.imshow(np.concatenate(list(tile.frames), axis=1))
            axes.set(xticks=[], yticks=[])
            axes.set_title(tile.text, fontsize=6, pad=4, fontweight="normal" if number else "bold")
            for spine in axes.spines.values():
                spine.set(edgecolor=colour, linewidth=2)
    with atomic_write(path) as aside:
        figure.savefig(aside, dpi=150)


def neighbour_tiles(queries: FeatureBank, found: FeatureBank, line: dict[str, Any], task: str = "label") -> list[Tile]:
    """The query of a line of `list_neighbors`, and its neighbours."""
    from vidgen.representations.search.clips import show_clip

    def make(bank: FeatureBank, row: BankRow, remark: str = "", hit: bool | None = None) -> Tile:
        label = row.label if task == "label" else row.labels.get(task)
        words = "  ".join(word for word in (label or "", remark) if word)
        return Tile(frames=show_clip(bank, row), text=f"{shorten_name(row.id)}\n{words}", hit=hit)

    near = [make(found, one["row"], f"{one['cosine']:.3f}", one["hit"]) for one in line["neighbours"]]
    return [make(queries, line["query"]), *near]


def shorten_name(name: str, length: int = 24) -> str:
    """The end of a path, which tells more than its beginning."""
    return name if len(name) <= length else f"...{name[3 - length :]}"
