"""Contact sheets of clips: a line of tiles each, as a query and its neighbors, hits framed green and others red."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from vidgen.data.writing import contact_sheet
from vidgen.scripts.plots.figure import new_figure, save_figure

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
    """Write a .png, .svg or .pdf of lines of tiles. The first of a line is the query, its text in bold."""
    columns = max(len(line) for line in lines)
    count, height, width, _ = lines[0][0].frames.shape
    figure = new_figure(SIDE * count * columns, 0.4 + (SIDE * height / width + 0.3) * len(lines))
    figure.suptitle(title, fontsize=8)
    grid = figure.subplots(len(lines), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, line in zip(grid, lines, strict=True):
        for number, (axes, tile) in enumerate(zip(row, line, strict=False)):
            colour = PLAIN if tile.hit is None else HIT if tile.hit else MISS
            axes.set_axis_on()
            axes.imshow(contact_sheet(tile.frames, columns=len(tile.frames)))
            axes.set(xticks=[], yticks=[])
            axes.set_title(tile.text, fontsize=6, pad=4, fontweight="normal" if number else "bold")
            for spine in axes.spines.values():
                spine.set(edgecolor=colour, linewidth=2)
    save_figure(figure, path)


def neighbor_tiles(queries: FeatureBank, bank: FeatureBank, line: dict[str, Any], task: str = "label") -> list[Tile]:
    """Return the tiles of a line of `list_neighbors`: the query, and its neighbors in `bank`."""
    from vidgen.representations.search.clips import show_clip

    def make(bank: FeatureBank, row: BankRow, remark: str = "", hit: bool | None = None) -> Tile:
        label = row.label if task == "label" else row.labels.get(task)
        words = "  ".join(word for word in (label or "", remark) if word)
        return Tile(frames=show_clip(bank, row), text=f"{shorten_name(row.id)}\n{words}", hit=hit)

    neighbors = [make(bank, one["row"], f"{one['cosine']:.3f}", one["hit"]) for one in line["neighbours"]]
    return [make(queries, line["query"]), *neighbors]


def shorten_name(name: str, length: int = 24) -> str:
    """Return the end of a path, which tells more than its beginning."""
    return name if len(name) <= length else f"...{name[3 - length :]}"
