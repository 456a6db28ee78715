"""Tables of ablations in Markdown: cells with intervals, and the page of a comparison of tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = (
    *("variant", "tokenizer", "PSNR, dB", "SSIM", "raw bits a pixel", "entropy", "coded"),
    *("codes used", "perplexity", "PSNR unrounded", "parameters", "seconds"),
)
POINT_COLUMNS = ("variant", "latents", "PSNR, dB", "SSIM", "raw bits a pixel", "entropy", "coded")


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> str:
    """Return a Markdown table, the first `labels` columns flush left."""
    rule = ["---"] * labels + ["---:"] * (len(columns) - labels)
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, rule, *cells])


def format_interval(mean: float | None, interval: Sequence[float] | None, digits: int) -> str:
    """Return a mean with its interval in brackets, where there is one; "-" for none at all."""
    if mean is None:
        return "-"
    ends = f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else ""
    return f"{mean:.{digits}f}{ends}"


def describe_report(report: dict[str, Any]) -> str:
    """Return the page of a report: budget, table, how bits are counted, continuous variants at other rates, clips."""
    evaluation = report["evaluation"]
    size = "x".join(map(str, evaluation["size"]))
    clips = f"{len(report['held_out'])} held-out clips, first {evaluation['num_frames']} frames at {size}"
    parts = [
        f"# {Path(report['comparison']).stem}",
        f"{describe_budget(report)} Measured on {clips}; in brackets {report['ci_method']}.",
        markdown_table(COLUMNS, table_rows(report), labels=2),
        "\n".join(f"- {note}" for note in notes(report)),
    ]
    if points := point_rows(report):
        parts += ["## Continuous latents, rounded", markdown_table(POINT_COLUMNS, points, labels=2)]
    names = ", ".join(Path(clip).name for clip in report["held_out"])
    return "\n\n".join([*parts, f"Held out: {names}."]) + "\n"


def describe_budget(report: dict[str, Any]) -> str:
    """Return what every variant trained with, in a sentence."""
    b = report["budget"]
    size = "x".join(map(str, b["size"]))
    return (
        f"Each variant: {b['steps']} steps of {b['batch_size']} clips ({b['clips']:,} of {b['num_frames']} frames at "
        f"{size}, the same ones in the same order, seed {b['seed']}), {b['autocast']}, {b['threads']} threads of "
        f"{b['device']}."
    )


def table_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return a row of COLUMNS for every variant. PSNR, SSIM and bits in a row are of the same latents."""
    rows = []
    for variant in report["variants"]:
        (point,) = [p for p in variant["points"] if p["name"] == variant["point"]]
        usage, train = variant["usage"], variant["train"]
        seconds = "-" if train["seconds"] is None else f"{train['seconds']:.0f}"
        rows.append(
            [
                variant["name"],
                variant["tokenizer"],
                *fidelity(point),
                *bits(point),
                *describe_usage(usage),
                "-" if usage else f"{variant['mean']['psnr']:.2f}",
                f"{variant['parameters']['total']:,}",
                seconds + (f" ({train['rollbacks']} rollbacks)" if train["rollbacks"] else ""),
            ]
        )
    return rows


def point_rows(report: dict[str, Any]) -> list[list[str]]:
    """Return a row of POINT_COLUMNS for every rounding of every continuous variant."""
    continuous = [variant for variant in report["variants"] if variant["usage"] is None]
    return [[v["name"], point["name"], *fidelity(point), *bits(point)] for v in continuous for point in v["points"]]


def fidelity(point: dict[str, Any]) -> list[str]:
    """Return cells of PSNR and SSIM, each with its interval."""
    return [format_interval(point[key], point["ci"][key], digits) for key, digits in (("psnr", 2), ("ssim", 3))]


def bits(point: dict[str, Any]) -> list[str]:
    """Return cells of the bits a pixel."""
    return [f"{point[key]:.4f}" for key in ("raw_bpp", "entropy_bpp", "coded_bpp")]


def describe_usage(usage: dict[str, Any] | None) -> list[str]:
    """Return cells of codes used and perplexity, a number a codebook."""
    if usage is None:
        return ["-", "-"]
    books = [f"{value:.3f}" for value in usage["usage"]]
    most = f" of {usage['reachable']:.3f}" if usage["reachable"] < 1 else ""
    return [", ".join(books) + most, ", ".join(f"{value:.0f}" for value in usage["perplexity"])]


def notes(report: dict[str, Any]) -> list[str]:
    """Return what the columns mean, and what is missing."""
    step = report["evaluation"]["step"]
    lines = [
        f"Bits are for the whole clip's pixels. raw: {report['rates']['raw_bpp']}.",
        f"entropy: {report['rates']['entropy_bpp']}. coded: {report['rates']['coded_bpp']}.",
        f"Continuous latents cost no fixed number of bits: they are rounded to multiples of {step:g} standard "
        "deviations of their channel, and PSNR, SSIM and bits are of that; they have no codebook to use.",
        '"of 0.16": so few tokens could not have shown more of the codebook.',
    ]
    return lines + [f"{failure['name']} is missing: {failure['reason']}" for failure in report["failed"]]
