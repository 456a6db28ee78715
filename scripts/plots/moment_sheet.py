"""Contact sheets of moments: a line of frames for each span of a film, with their times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vidgen.data.reading import iter_frames, probe_video
from vidgen.scripts.cli.moments import format_time
from vidgen.scripts.plots.figure import new_figure, save_figure

FRAMES = 6  # of a span
SIDE = 1.1  # inches that a frame is high
PIXELS = 160  # that a frame is high, at most


@dataclass(frozen=True, kw_only=True)
class MomentLine:
    """What stands before a line of the sheet, and the span in seconds that it shows of the film, or of another file at
    `path`."""

    label: str
    start: float
    end: float
    path: Path | None = None


def read_moment(
    path: Path, start: float, end: float, count: int = FRAMES
) -> tuple[list[float], list[UInt8[np.ndarray, "h w 3"]]]:
    """Return times in seconds and frames of a span of a file, at even distances from its start. Raises VideoError."""
    info = probe_video(path)
    height = min(info.height, PIXELS)
    size = (height, max(1, round(info.width * height / info.height)))
    fps = count / (end - start)
    frames = [f for _, f in islice(iter_frames(path, start=start, duration=end - start, fps=fps, size=size), count)]
    return [start + number / fps for number in range(len(frames))], frames


def draw_moments(path: Path, lines: Sequence[MomentLine], title: str, picture: Path) -> None:
    """Write a .png, .svg or .pdf with a line of frames for each span of the film at `path`."""
    moments = [read_moment(line.path or path, line.start, line.end) for line in lines]
    height, width, _ = moments[0][1][0].shape
    figure = new_figure(1.6 + SIDE * width / height * FRAMES, 0.4 + (SIDE + 0.2) * len(lines))
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(lines), FRAMES, squeeze=False)
    for row, line, (times, frames) in zip(grid, lines, moments, strict=True):
        for axes in row[len(frames) :]:
            axes.set_axis_off()
        for axes, time, frame in zip(row, times, frames, strict=False):
            axes.imshow(frame)
            axes.set(xticks=[], yticks=[])
            axes.set_title(format_time(time), fontsize=7, pad=2)
        row[0].set_ylabel(line.label, fontsize=7, rotation=0, ha="right", va="center", labelpad=6)
    save_figure(figure, picture)
