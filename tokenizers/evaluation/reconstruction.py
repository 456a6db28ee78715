"""Evaluation of a tokenizer on clips: every metric of every clip, and their means; clip by clip, piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from math import inf
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from vidgen.data.manifests import ClipRecord
from vidgen.errors import VidgenError, WriteError
from vidgen.interfaces import Tokenizer
from vidgen.metrics.clip_metrics import ClipMetrics, ClipScore
from vidgen.metrics.intervals import METHOD, mean_interval
from vidgen.tokenizers.evaluation.protocols import ClipProtocol, open_windows
from vidgen.tokenizers.evaluation.rate_distortion import Sweep, measure_rates, summarize_rates
from vidgen.tokenizers.evaluation.token_usage import TokenCount
from vidgen.tokenizers.streaming.chunks import reconstruct_tokens

MEASURES = (
    *("psnr", "psnr_frames", "ssim", "ms_ssim", "lpips", "features", "temporal_psnr", "flicker"),
    *("first_psnr", "rest_psnr", "seam"),
)
BOUNDS = {
    "ssim": (-1.0, 1.0),
    "ms_ssim": (0.0, 1.0),
    **dict.fromkeys(("lpips", "features", "flicker", "seam"), (0.0, inf)),
}
PROFILES = ("position_psnr", "position_temporal_psnr")
Progress = Callable[[int], None]
Say = Callable[[str], None]  # hears of a clip that is left out


def evaluate(
    tokenizer: Tokenizer,
    records: Sequence[ClipRecord],
    protocol: ClipProtocol,
    *,
    perceptual: Mapping[str, nn.Module] = MappingProxyType({}),
    sweep: Sweep | None = None,
    progress: Progress = lambda done: None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Encode, decode and measure every clip.

    Args:
        tokenizer: The tokenizer that is measured.
        records: The clips.
        protocol: Which frames are taken of each, and at which size.
        perceptual: Metrics of `find_perceptual`, by name.
        sweep: Also hold rates against codecs, on the first window of every clip, which is then in memory as a whole.
        progress: Hears after every clip how many are done.
        say: Hears of every clip that cannot be read. It is listed in "dropped", never replaced.

    Returns:
        Plain data for JSON: see `summarize`, and with `sweep` "rate_distortion" of `summarize_rates`.

    Raises VidgenError if no clip can be used.
    """
    rates = []
    tokens = TokenCount(tokenizer)

    def measure(record: ClipRecord) -> dict[str, Any]:
        row, curves = evaluate_clip(tokenizer, record, protocol, perceptual, tokens, sweep)
        if curves is not None:
            rates.append({"path": row["path"], **curves})
            for codec, reason in curves["refused"].items():
                say(f"{row['path']}: left out of the curve of {codec}: {reason}")
        return row

    rows, dropped = measure_each(records, measure, progress, say)
    report = summarize(rows, tokenizer.config.temporal_compression_ratio) | {
        "usage": tokens.report(),
        "clips": rows,
        "dropped": dropped,
    }
    return report | ({"rate_distortion": summarize_rates(rates, sweep)} if sweep is not None else {})


def measure_each(
    records: Sequence[ClipRecord], measure: Callable[[ClipRecord], dict[str, Any]], progress: Progress, say: Say
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return the rows of all clips that can be measured, and "path" and "reason" of the others, which `say` hears of.

    Raises VidgenError if none is left.
    """
    rows, dropped = [], []
    for index, record in enumerate(records):
        try:
            rows.append(measure(record))
        except WriteError:
            raise
        except VidgenError as error:
            dropped.append({"path": str(record.path), "reason": str(error).removeprefix(f"{record.path}: ")})
            say(f"left out: {error}")
        progress(index + 1)
    if not rows:
        reasons = "; ".join(drop["reason"] for drop in dropped[:3])
        raise VidgenError(f"none of {len(records)} clips can be used ({reasons}); see `vidgen data inspect`")
    return rows, dropped


def evaluate_clip(
    tokenizer: Tokenizer,
    record: ClipRecord,
    protocol: ClipProtocol,
    perceptual: Mapping[str, nn.Module],
    tokens: TokenCount,
    sweep: Sweep | None = None,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the row of one clip, its metrics the means over its windows.

    With `sweep` the `measure_rates` of its first window comes second.

    Raises VideoError if the clip cannot be read.
    """
    opened = open_windows(record, protocol)
    scores: list[ClipScore] = []
    first_window: list[Any] = []
    left_out: dict[str, str] = {}
    indices: list[Tensor] = []
    for number, window in enumerate(opened.windows):
        if sweep is not None and number == 0:
            window = first_window = list(window)
        meter = ClipMetrics(chunk=tokenizer.config.temporal_compression_ratio, **perceptual)
        for original, result, piece in reconstruct_tokens(tokenizer, window):
            meter.add(original, result)
            height, width = original.shape[-2:]
            indices += [] if piece.indices is None else [piece.indices]
        scores.append(meter.score())
        left_out |= meter.left_out
    rates = None if sweep is None else measure_rates(tokenizer, first_window, opened.fps, sweep)
    tokens.add(indices)  # here at the end: only of clips that came through as a whole
    row = {"path": str(record.path), "frames": sum(s.frames for s in scores), "height": height, "width": width}
    row |= {"fps": round(opened.fps, 3), "windows": len(scores)}
    row |= {name: average([getattr(s, name) for s in scores]) for name in MEASURES}
    row |= {name: average_profile([getattr(s, name) for s in scores]) for name in PROFILES}
    return row | {"left_out": left_out, "note": "; ".join(opened.notes)}, rates


def average(values: Sequence[float | None]) -> float | None:
    """Return the mean of those that are there, to 4 places; None of none."""
    numbers = [v for v in values if v is not None]
    return round(sum(numbers) / len(numbers), 4) if numbers else None


def average_profile(profiles: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of each position, over the profiles that reach so far."""
    longest = max((len(p) for p in profiles), default=0)
    return [average([p[k] for p in profiles if k < len(p)]) for k in range(longest)]


def summarize(rows: Sequence[dict[str, Any]], chunk: int) -> dict[str, Any]:
    """Return means over clips, each clip counting once.

    "mean" and "ci" ([low, high], or None for one clip) by metric, "ci_method", "seam" (the mean profiles, with the
    frames of a chunk), "left_out" {metric: {"clips", "reason"}} for what was not measured everywhere.
    """
    means: dict[str, float] = {}
    intervals: dict[str, list[float] | None] = {}
    for name in MEASURES:
        values = [row[name] for row in rows if row[name] is not None]
        if values:
            estimate = mean_interval(values, BOUNDS.get(name, (-inf, inf)))
            means[name] = round(estimate.mean, 4)
            intervals[name] = None if estimate.interval is None else [round(v, 4) for v in estimate.interval]
    reasons: dict[str, str] = {}
    missing: Counter[str] = Counter()
    for row in rows:
        missing.update(list(row["left_out"]))
        reasons |= row["left_out"]
    profiles = {n.removeprefix("position_"): average_profile([row[n] for row in rows]) for n in PROFILES}
    return {
        "mean": means,
        "ci": intervals,
        "ci_method": METHOD,
        "seam": {"chunk": chunk, **profiles},
        "left_out": {name: {"clips": missing[name], "reason": reason} for name, reason in reasons.items()},
    }


def plain(protocol: ClipProtocol) -> dict[str, Any]:
    """Return the protocol's settings that are set, for JSON."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(protocol).items() if v not in (None, "")}
