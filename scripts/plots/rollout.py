"""The picture of `vidgen evaluate rollout`: adherence to the prompts, and drift of the picture, over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vidgen.scripts.plots.figure import new_figure, save_figure


def drift_curves(stories: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return three curves over windows, each the median over stories: the distance of the mean colour from the first
    window's, in levels; contrast and sharpness relative to the first window's."""
    colours = []
    ratios = {"contrast": [], "sharpness": []}
    for story in stories:
        segments = story["drift"]["segments"]
        mean = np.array([segment["colour"] for segment in segments])
        colours.append(np.linalg.norm(mean - mean[0], axis=1))
        for name, rows in ratios.items():
            values = np.array([segment[name] for segment in segments])
            rows.append(values / max(values[0], 1e-9))
    return {"colour": np.median(colours, axis=0)} | {name: np.median(rows, axis=0) for name, rows in ratios.items()}


def draw_rollout(report: dict[str, Any], path: Path) -> None:
    """Write a .png, .svg or .pdf of two panels, with a line where prompts change."""

    figure = new_figure(7.2, 5.6)
    above, below = figure.subplots(2, 1, sharex=True)
    fps = report["fps"]
    half = report["window_frames"] / 2
    seconds = [(window["start"] + half) / fps for window in report["windows"]]
    for name in ("colour", "shape", "motion"):
        above.plot(seconds, [window[name] for window in report["windows"]], marker="o", label=name)
    above.set_ylim(-0.03, 1.03)
    above.set_ylabel("stories as asked")
    subject = f"{report['n']} stories of {report['num_frames'] / fps:g} s, {report['scenes_asked']} prompts each"
    above.set_title(f"{report['model']}, {subject}", fontsize=10)
    curves = drift_curves(report["stories"])
    starts = [(segment["start"] + half) / fps for segment in report["stories"][0]["drift"]["segments"]]
    below.plot(starts, curves["contrast"], marker=".", label="contrast")
    below.plot(starts, curves["sharpness"], marker=".", label="sharpness")
    below.set_ylabel("over the first window's")
    below.set_ylim(bottom=0.0)
    below.set_xlabel("s")
    beside = below.twinx()
    beside.plot(starts, curves["colour"], color="tab:green", linestyle="--", label="colour (right)")
    beside.set_ylabel("distance of mean colour, levels")
    beside.set_ylim(bottom=0.0)
    for axes in (above, below):
        axes.grid(True, alpha=0.3)
        for scene in report["stories"][0]["prompts"][1:]:
            axes.axvline(scene[0] / fps, color="black", linewidth=0.8, linestyle=":")
    above.legend(fontsize=8)
    lines = [*below.get_lines()[:2], *beside.get_lines()]
    below.legend(lines, [line.get_label() for line in lines], fontsize=8, loc="lower right")
    save_figure(figure, path)
