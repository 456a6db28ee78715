"""The picture of `vidgen evaluate conditions`: the world's clip, what is given of it, what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vidgen.scripts.plots.neighbour_sheet import Tile, draw_sheet

FRAMES = 5


class ConditionSheet:
    """Lines of a sheet, as conditions are done."""

    def __init__(self) -> None:
        self.lines: list[list[Tile]] = []

    def add(self, name: str, *clips: UInt8[np.ndarray, "t h w 3"]) -> None:
        """Some frames of each, from the first to the last."""
        places = np.linspace(0, len(clips[0]) - 1, min(FRAMES, len(clips[0]))).round().astype(int)
        texts = (name, "given", "made")
        self.lines.append([Tile(frames=clip[places], text=text) for clip, text in zip(clips, texts, strict=True)])

    def draw(self, path: Path, model: str) -> None:
        draw_sheet(self.lines, f"{model}: the world's clip, what is given of it, what comes out", path)
