"""The picture of `vidgen probe-dense`: the first held-out clips, and where things in them were found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.checkpoints.atomic import atomic_write

if TYPE_CHECKING:
    from vidgen.representations.dense.tracking import Tracks

CLIPS, SIDE = 2, 1.1  # clips shown, and inches that a frame is wide
COLOURS = ("white", "lime")  # of what is found of the first object and of the second


def choose_shown(rows: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    """The layer that is best on validation, and on its cells the same with random weights, raw pixels, what is exact."""
    rows = [row for row in rows if row["task"] == task]
    sign = -1 if task == "points" else 1
    best = max((row for row in rows if not row["baseline"]), key=lambda row: sign * row["validation"])
    names = {(f"random.{best['layer']}", best["noise_level"]), ("raw_pixels", None), ("exact", None)}
    others = (row for row in rows if row["stride"] == best["stride"] and (row["layer"], row["noise_level"]) in names)
    return [best, *others]


def draw_dense(rows: list[dict[str, Any]], found: list[Tracks], path: Path) -> None:
    """Writes a .png, .svg or .pdf: a line for each task and kind of features, a column for each feature frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from vidgen.representations.dense.grids import parse_grid_key

    there = {(one.task, *parse_grid_key(one.key), one.grid.stride): one for one in found}
    lines = [
        (row, there[task, row["layer"], row["noise_level"], tuple(row["stride"])])
        for task in dict.fromkeys(one.task for one in found)
        for row in choose_shown(rows, task)
    ]
    clips = min(CLIPS, *(len(one.labels) for one in found))
    frames = max(len(one.grid.frames) for _, one in lines)
    figure = Figure(figsize=(1.6 + SIDE * clips * frames, 0.3 + SIDE * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(lines), clips * frames, squeeze=False)
    for line, (row, one) in zip(grid, lines, strict=True):
        for axes in line:
            axes.set_axis_off()
        for clip in range(clips):
            draw_clip(line[clip * frames :], one, clip)
        level = "" if row["noise_level"] is None else f" t={row['noise_level']:g}"
        layer = row["layer"].replace(".", ".\n", 1)
        line[0].set_axis_on()
        line[0].set(xticks=[], yticks=[])
        line[0].set_ylabel(
            f"{row['task']}\n{layer}{level}\n{row['metric']} {row['test']:.2f}",
            rotation=0, ha="right", va="center", fontsize=6,
        )  # fmt: skip
    with atomic_write(path) as aside:
        figure.savefig(aside, dpi=150)


def draw_clip(line: Any, one: Tracks, clip: int) -> None:
    """One clip's frames, each in axes of its own, with what was found in them."""
    from vidgen.data.shapes import ShapeWorldConfig, render
    from vidgen.representations.dense.tracked_labels import read_boxes, read_masks, read_points

    labels, (height, width) = one.labels[clip], one.grid.size
    shown = render(labels, ShapeWorldConfig(height=height, width=width, num_frames=labels.num_frames))
    read = {"masks": read_masks, "points": read_points, "boxes": read_boxes}[one.task]
    places = read(one.cells[clip : clip + 1], one.grid)[0]  # objects, or objects times points, by frame
    each = len(places) // max(len(other.objects) for other in one.labels)
    for k, (axes, t) in enumerate(zip(line, one.grid.frames, strict=False)):
        axes.imshow(shown[t], extent=(0, width, height, 0))
        for number, part in enumerate(places[: each * len(labels.objects), k]):
            draw_place(axes, one.task, part, COLOURS[number // each])
        axes.set(xlim=(0, width), ylim=(height, 0))


def draw_place(axes: Any, task: str, place: Any, colour: str) -> None:
    """A mask's contour, a point or a box."""
    from matplotlib.patches import Rectangle

    if task == "points":
        axes.plot(*place, marker="+", color=colour, markersize=4)
    elif task == "boxes":
        left, top, right, bottom = place
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour))
    elif place.any() and not place.all():
        y, x = (range(n) for n in place.shape)
        axes.contour([i + 0.5 for i in x], [i + 0.5 for i in y], place, [0.5], colors=colour, linewidths=1)
