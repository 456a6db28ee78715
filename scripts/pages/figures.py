"""Figures of probes as SVG, to be written into a page: scores with intervals, confusions, and numbers against truth."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from vidgen.scripts.plots.figure import new_figure
from vidgen.scripts.plots.sweep import draw_grid, grid_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCENT, SOFT, INK, LINE = "#22577a", "#a9b0ba", "#1d2430", "#e4e1d9"
WIDTH = 4.0  # inches: in a window as narrow as a phone's, letters are still to be read
METRIC_NAMES = {"f1": "F1", "r2": "R²"}  # others are called what they are
MOST_NUMBERED = 12  # classes of a confusion matrix whose counts are written out


def to_svg(figure: Figure, title: str) -> str:
    """Return the figure as an element of a page; the same figure gives the same text. It does not shrink below what
    can be read: the page scrolls it."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.hashsalt": "vidgen", "font.size": 9}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    min_width = round(0.7 * figure.get_figwidth() * 96)
    style = f'role="img" aria-label="{escape(title, quote=True)}" style="min-width:{min_width}px"'
    return re.sub(r"\s*<metadata>.*?</metadata>", "", svg.replace("<svg ", f"<svg {style} ", 1), flags=re.S)


def draw_scores(rows: Sequence[dict[str, Any]]) -> str:
    """Draw scores on test as bars, with their intervals; baselines are gray."""
    figure = new_figure(WIDTH, 0.9 + 0.28 * len(rows))
    axes = figure.add_subplot()
    positions = np.arange(len(rows))
    scores = np.array([row["test"] for row in rows])
    spread = np.abs(np.array([row["ci"] or (row["test"], row["test"]) for row in rows]) - scores[:, None]).T
    colours = [SOFT if row["baseline"] else ACCENT for row in rows]
    axes.barh(positions, scores, color=colours, height=0.62, zorder=2)
    axes.errorbar(scores, positions, xerr=spread, fmt="none", ecolor=INK, elinewidth=1, capsize=2, zorder=3)
    axes.set_yticks(positions, [short_name(row) for row in rows], fontsize=9)
    axes.invert_yaxis()
    low = min(0.0, float((scores - spread[0]).min()))
    axes.set_xlim(max(low, -1.0), max(1.0, float((scores + spread[1]).max())))
    axes.set_xlabel(f"{METRIC_NAMES.get(rows[0]['metric'], rows[0]['metric'])} on test, with 95% intervals", fontsize=9)
    axes.tick_params(axis="x", labelsize=9)
    tidy(axes)
    axes.grid(axis="x", color=LINE, zorder=0)
    return to_svg(figure, "scores on test")


def short_name(row: dict[str, Any]) -> str:
    """Return the layer and, where it has one, the noise level: "dit.blocks.3, t=0.1"."""
    return row["layer"] if row["noise_level"] is None else f"{row['layer']}, t={row['noise_level']:g}"


def draw_heat_map(rows: list[dict[str, Any]]) -> str | None:
    """Draw scores on validation by layer and noise level; None where there are not two of them."""
    layers, columns, scores = grid_of(rows)
    if np.isfinite(scores).sum() < 2:
        return None
    longest = max(map(len, layers))
    figure = new_figure(0.4 + 0.078 * longest + 0.6 * len(columns), 0.5 + 0.32 * len(layers))
    axes = figure.add_subplot()
    draw_grid(axes, rows, font=9)
    tidy(axes)
    return to_svg(figure, "scores on validation")


def draw_confusion(counts: Int[np.ndarray, "k k"], classes: Sequence[str]) -> str:
    """Draw truth down, answers across; the darker, the larger the share of the truth's clips."""
    size = len(classes)
    is_large = size > MOST_NUMBERED
    side = max(3.6, min(9.0, 1.6 + (0.22 if is_large else 0.42) * size))
    figure = new_figure(side + 0.4, side)
    axes = figure.add_subplot()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    font = 6 if is_large else 9
    axes.set_xticks(range(size), classes, rotation=90 if size > 4 else 0, fontsize=font)
    axes.set_yticks(range(size), classes, fontsize=font)
    axes.set_xlabel("answer", fontsize=9)
    axes.set_ylabel("truth", fontsize=9)
    if not is_large:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[i, j] > 0.55 else INK
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=8, color=colour)
    tidy(axes)
    return to_svg(figure, "confusion matrix")


def draw_numbers(truth: Float[np.ndarray, "n k"], predictions: Float[np.ndarray, "n k"], name: str) -> str:
    """Draw answers over truth, a panel a number (six at most); on the line they agree."""
    count = min(truth.shape[1], 6)
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = new_figure(WIDTH if columns > 1 else 3.6, (WIDTH / 2 if columns > 1 else 3.2) * rows)
    for k, axes in enumerate(np.ravel(figure.subplots(rows, columns))):
        if k >= count:
            axes.set_axis_off()
            continue
        ends = [float(truth[:, k].min()), float(truth[:, k].max())]
        axes.plot(ends, ends, color=SOFT, linewidth=1, zorder=1)
        axes.scatter(truth[:, k], predictions[:, k], s=9, color=ACCENT, alpha=0.6, linewidths=0, zorder=2)
        axes.set_xlabel(f"{name}{f' {k}' if count > 1 else ''}, truth", fontsize=8)
        axes.set_ylabel("answer", fontsize=8)
        axes.tick_params(labelsize=7)
        tidy(axes)
    return to_svg(figure, "answers against truth")


def tidy(axes: Axes) -> None:
    """Take away the frame's upper and right side and soften the others."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(SOFT)
    axes.tick_params(color=SOFT)
