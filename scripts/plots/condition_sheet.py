"""Pictures of `vidgen evaluate conditions` and `control`: the world's clip, what is given of it, and the result."""

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


class ControlSheet:
    """The first clips of each control, side by side: a line a control, after that of the world's clips."""

    clips = 2

    def __init__(self) -> None:
        self.lines: dict[str, list[Tile]] = {"asked": []}

    def add(self, name: str, source: UInt8[np.ndarray, "t h w 3"], video: UInt8[np.ndarray, "t h w 3"]) -> None:
        """Add a clip to its control's line, and the world's to the first line; those beyond the first few are not."""
        line = self.lines.setdefault(name, [])
        if len(line) == self.clips:
            return
        indices = np.linspace(0, len(video) - 1, min(FRAMES, len(video))).round().astype(int)
        if len(self.lines["asked"]) < self.clips:
            self.lines["asked"].append(Tile(frames=source[indices], text="the path, in another colour"))
        line.append(Tile(frames=video[indices], text=name))

    def draw(self, path: Path, model: str) -> None:
        """Write the sheet to a .png, .svg or .pdf."""
        draw_sheet(list(self.lines.values()), f"{model}: objects on a path, by each control", path)
