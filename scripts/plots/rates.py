"""The picture of `vidgen tokenizer evaluate --rate-distortion`: PSNR over bits per pixel, tokenizer and codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidgen.scripts.cli.printing import pluralize
from vidgen.scripts.plots.figure import new_figure, save_figure
from vidgen.tokenizers.evaluation.rate_distortion import PRIOR_POINT

# Up to the left of the curve, which rises and bends: below it, to its right, are the markers of raw rates. Aslant,
# labels of points that are near each other lie side by side.
LABEL = {"textcoords": "offset points", "xytext": (-4, 4), "ha": "right", "va": "baseline", "fontsize": 7}
LABEL |= {"rotation": -35, "rotation_mode": "anchor"}


def draw_rates(report: dict[str, Any], path: Path) -> None:
    """Write the mean curves of a report to a .png, .svg or .pdf; rates on a log axis."""

    rates = report["rate_distortion"]
    figure = new_figure(7.2, 4.8)
    axes = figure.add_subplot()
    for name, curve in rates["codecs"].items():
        axes.plot([p["bpp"] for p in curve], [p["psnr"] for p in curve], marker=".", label=name)
    by_prior = [point for point in rates["points"] if point["name"] == PRIOR_POINT]
    points = sorted([p for p in rates["points"] if p not in by_prior], key=lambda point: point["coded_bpp"])
    psnr = [p["psnr"] for p in points]
    coded = axes.plot([p["coded_bpp"] for p in points], psnr, "s-", color="black", label="tokenizer, coded")
    axes.plot([p["raw_bpp"] for p in points], psnr, "s", color=coded[0].get_color(), mfc="none", label="tokenizer, raw")
    prior = {"color": "tab:red", "zorder": 3, "label": "tokenizer, coded by a prior"}
    for point in by_prior:
        axes.plot([point["coded_bpp"]], [point["psnr"]], "D-", **prior)
    for point in points:
        position = (point["coded_bpp"], point["psnr"])
        axes.annotate(point["name"], position, **LABEL)
    axes.set_xscale("log")
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel("PSNR, dB (RGB)")
    clips = pluralize(len(report["clips"]), "clip")
    axes.set_title(f"{report['model']} ({report['tokenizer']}), {clips}", fontsize=10)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    save_figure(figure, path)
