"""The picture of `vidgen evaluate conditions`: the world's clip, its part that is the condition, and the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vidgen.scripts.plots.neighbor_sheet import Tile, draw_sheet

FRAMES = 5


class ConditionSheet:
    """The lines of a sheet, added as conditions are done."""

    def __init__(self) -> None:
        self.lines: list[list[Tile]] = []

    def add(self, name: str, *clips: UInt8[np.ndarray, "t h w 3"]) -> None:
        """Add a line: frames of the world's clip, the condition and the result, from the first to the last."""
        length = len(clips[0])
        indices = np.linspace(0, length - 1, min(FRAMES, length)).round().astype(int)
        texts = (name, "condition", "result")
        self.lines.append([Tile(frames=clip[indices], text=text) for clip, text in zip(clips, texts, strict=True)])

    def draw(self, path: Path, model: str) -> None:
        """Write the sheet to a .png, .svg or .pdf."""
        draw_sheet(self.lines, f"{model}: the world's clip, the condition, the result", path)
