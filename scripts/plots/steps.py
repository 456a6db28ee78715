"""The picture of `vidgen evaluate steps`: adherence over evaluations, a line a solver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidgen.scripts.plots.figure import new_figure, save_figure


def draw_steps(report: dict[str, Any], path: Path) -> None:
    """Write a .png, .svg or .pdf; evaluations on a log axis, 95% intervals as bars."""
    from matplotlib.ticker import ScalarFormatter

    figure = new_figure(7.2, 4.8)
    axes = figure.add_subplot()
    for number, name in enumerate(dict.fromkeys(row["sampler"] for row in report["rows"])):
        rows = sorted((row for row in report["rows"] if row["sampler"] == name), key=lambda row: row["evaluations"])
        shares = [row["all"] for row in rows]
        bars = [[s - row["ci"]["all"][0] for s, row in zip(shares, rows, strict=True)]]
        bars.append([row["ci"]["all"][1] - s for s, row in zip(shares, rows, strict=True)])
        spread = 1.015 ** (number - len(report["rows"]) / 8)  # beside each other, not on top
        positions = [row["evaluations"] * spread for row in rows]
        axes.errorbar(positions, shares, yerr=bars, marker=".", capsize=2, elinewidth=0.7, label=name)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("evaluations of the denoiser a clip")
    axes.set_ylabel("clips with colour, shape and motion as asked")
    axes.set_title(f"{report['model']}, {report['n']} held-out prompts, 95% intervals", fontsize=10)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    save_figure(figure, path)
