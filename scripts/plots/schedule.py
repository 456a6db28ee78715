"""The picture of `vidgen schedule show`: where training draws its noise levels, and where the sampler steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vidgen.diffusion.noise import TimeDistribution
from vidgen.scripts.plots.figure import new_figure, save_figure

BINS = 400


def draw_schedule(report: dict[str, Any], path: Path) -> None:
    """Write a .png, .svg or .pdf: density over t with the steps below it, and log SNR over steps."""

    figure = new_figure(9.6, 3.6)
    density, snr = figure.subplots(1, 2)
    # Equal shares of draws lie between neighboring quantiles: the density is one over their distance.
    edges = TimeDistribution(**report["time"]).quantile(torch.linspace(0.0, 1.0, BINS + 1, dtype=torch.float64))
    middles = 0.5 * (edges[1:] + edges[:-1])
    widths = edges.diff().clamp(min=1e-6)
    density.plot(middles.tolist(), (1.0 / BINS / widths).tolist(), color="black", label="training")
    steps = report["steps"]
    density.plot([s["t"] for s in steps], [0.0] * len(steps), "|", markersize=14, label="sampling steps")
    density.set_xlabel("noise level t")
    density.set_ylabel("density")
    density.legend(fontsize=8)
    finite = [s for s in steps if s["log_snr"] is not None]
    snr.plot([s["step"] for s in finite], [s["log_snr"] for s in finite], ".-", color="black")
    snr.set_xlabel("step")
    snr.set_ylabel("log SNR")
    snr.grid(True, alpha=0.3)
    time = report["time"]
    figure.suptitle(
        f"{report['model']}: {report['prediction_type']} on the {report['path']} path, {time['density']}, "
        f"shift {time['shift']:.3g}",
        fontsize=10,
    )
    save_figure(figure, path)
