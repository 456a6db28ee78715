"""The picture of `vidgen probe-dense`: the first held-out clips, with the predicted masks, points and boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidgen.scripts.plots.figure import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vidgen.representations.dense.tracking import Tracks

CLIPS = 2
SIDE = 1.1  # inches that a frame is wide
COLOURS = ("white", "lime")  # of predictions for the first object and for the second


def choose_rows(rows: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    """Return the row that is best on validation and, of its grid, those of random weights, raw pixels and exact."""
    rows = [row for row in rows if row["task"] == task]
    sign = -1 if task == "points" else 1
    best = max((row for row in rows if not row["baseline"]), key=lambda row: sign * row["validation"])
    names = {(f"random.{best['layer']}", best["noise_level"]), ("raw_pixels", None), ("exact", None)}
    others = (row for row in rows if row["stride"] == best["stride"] and (row["layer"], row["noise_level"]) in names)
    return [best, *others]


def draw_dense(rows: list[dict[str, Any]], results: list[Tracks], path: Path) -> None:
    """Write a .png, .svg or .pdf: a line for each task and kind of features, a column for each feature frame."""

    from vidgen.representations.dense.grids import parse_grid_key

    by_row = {(result.task, *parse_grid_key(result.key), result.grid.stride): result for result in results}
    lines = [
        (row, by_row[task, row["layer"], row["noise_level"], tuple(row["stride"])])
        for task in dict.fromkeys(result.task for result in results)
        for row in choose_rows(rows, task)
    ]
    clips = min(CLIPS, *(len(result.labels) for result in results))
    frames = max(len(result.grid.frames) for _, result in lines)
    figure = new_figure(1.6 + SIDE * clips * frames, 0.3 + SIDE * len(lines))
    grid = figure.subplots(len(lines), clips * frames, squeeze=False)
    for line, (row, result) in zip(grid, lines, strict=True):
        for axes in line:
            axes.set_axis_off()
        for clip in range(clips):
            draw_clip(line[clip * frames :], result, clip)
        level = "" if row["noise_level"] is None else f" t={row['noise_level']:g}"
        layer = row["layer"].replace(".", ".\n", 1)
        line[0].set_axis_on()
        line[0].set(xticks=[], yticks=[])
        line[0].set_ylabel(
            f"{row['task']}\n{layer}{level}\n{row['metric']} {row['test']:.2f}",
            rotation=0, ha="right", va="center", fontsize=6,
        )  # fmt: skip
    save_figure(figure, path)


def draw_clip(line: Sequence[Axes], result: Tracks, clip: int) -> None:
    """Draw the frames of a clip, each in axes of its own, with the predictions for them."""
    from vidgen.data.shapes import ShapeWorldConfig, render
    from vidgen.representations.dense.tracked_labels import read_boxes, read_masks, read_points

    labels = result.labels[clip]
    height, width = result.grid.size
    video = render(labels, ShapeWorldConfig(height=height, width=width, num_frames=labels.num_frames))
    read = {"masks": read_masks, "points": read_points, "boxes": read_boxes}[result.task]
    predictions = read(result.cells[clip : clip + 1], result.grid)[0]  # objects, or objects times points, by frame
    per_object = len(predictions) // max(len(other.objects) for other in result.labels)
    for k, (axes, t) in enumerate(zip(line, result.grid.frames, strict=False)):
        axes.imshow(video[t], extent=(0, width, height, 0))
        for number, prediction in enumerate(predictions[: per_object * len(labels.objects), k]):
            draw_prediction(axes, result.task, prediction, COLOURS[number // per_object])
        axes.set(xlim=(0, width), ylim=(height, 0))


def draw_prediction(axes: Axes, task: str, prediction: np.ndarray, colour: str) -> None:
    """Draw the contour of a mask, a point or a box."""
    from matplotlib.patches import Rectangle

    if task == "points":
        axes.plot(*prediction, marker="+", color=colour, markersize=4)
    elif task == "boxes":
        left, top, right, bottom = prediction
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour))
    elif prediction.any() and not prediction.all():
        y, x = (np.arange(n) + 0.5 for n in prediction.shape)
        axes.contour(x, y, prediction, [0.5], colors=colour, linewidths=1)
