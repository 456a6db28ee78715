"""The heat map of `vidgen sweep`: scores on validation, a row a layer, a column a pool and noise level."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.representations.probes.rows import is_model
from vidgen.scripts.plots.figure import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def grid_of(rows: list[dict[str, Any]]) -> tuple[list[str], list[tuple[str, float | None]], list[list[float]]]:
    """Return layers, (pool, noise level) pairs, and the scores on validation by both; NaN where there is none."""
    rows = [row for row in rows if is_model(row["layer"])]
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    columns = sorted({(row["pool"], row["noise_level"]) for row in rows}, key=lambda c: (c[0], c[1] is not None, c[1]))
    scores = {(row["layer"], row["pool"], row["noise_level"]): row["validation"] for row in rows}
    return layers, columns, [[scores.get((layer, *column), float("nan")) for column in columns] for layer in layers]


def draw_grid(axes: Axes, rows: list[dict[str, Any]], font: float = 7) -> AxesImage:
    """Draw the heat map of the model's rows, with numbers in it. The cell that is best on validation is framed."""
    from matplotlib.patches import Rectangle

    layers, columns, scores = grid_of(rows)
    image = axes.imshow(scores, cmap="viridis", aspect="auto")
    axes.set_facecolor("#f1efe9")  # where there is nothing to score
    axes.set_yticks(range(len(layers)), layers, fontsize=font)
    pools = {pool for pool, _ in columns}
    names = [describe_column(pool, level, several=len(pools) > 1) for pool, level in columns]
    axes.set_xticks(range(len(columns)), names, fontsize=font)
    middle = sum(image.get_clim()) / 2
    for i, line in enumerate(scores):
        for j, score in enumerate(line):
            if score == score:
                colour = "black" if score > middle else "white"
                axes.text(j, i, f"{score:.2f}", ha="center", va="center", fontsize=font, color=colour)
    best = best_row(rows, baseline=False)
    corner = (columns.index((best["pool"], best["noise_level"])) - 0.5, layers.index(best["layer"]) - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="red", linewidth=2))
    return image


def describe_column(pool: str, level: float | None, *, several: bool) -> str:
    """Return the label of a column: pool and noise level, or the level alone where all have one pool."""
    noise = "no noise" if level is None else f"t={level:g}"
    return f"{pool}\n{noise}" if several else noise


def best_row(rows: list[dict[str, Any]], *, baseline: bool) -> dict[str, Any]:
    """Return the row that is best on validation (the first of equals) among the model's, or among the baselines."""
    return max((row for row in rows if row["baseline"] == baseline), key=lambda row: row["validation"])


def draw_sweep(report: dict[str, Any], path: Path) -> None:
    """Write a .png, .svg or .pdf; the scores on test of the best cell and of the best baseline are in the title."""

    rows = report["sweep"]
    layers, columns, _ = grid_of(rows)
    figure = new_figure(2.5 + 0.7 * len(columns), 1.8 + 0.35 * len(layers))
    axes = figure.add_subplot()
    figure.colorbar(draw_grid(axes, rows), ax=axes, label=f"{rows[0]['metric']} on validation")
    best, other = (best_row(rows, baseline=baseline) for baseline in (False, True))
    axes.set_title(
        f"{rows[0]['kind']} of {rows[0]['task']}; on test {best['test']:.3f}, best baseline "
        f"({other['layer']}) {other['test']:.3f}",
        fontsize=8,
    )
    save_figure(figure, path)
