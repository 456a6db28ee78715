"""Measurements of one trained variant on held-out clips: fidelity, rates, use of the codebook, and what it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from vidgen.data.manifests import ClipRecord
from vidgen.files.json_lines import read_json_lines
from vidgen.metrics import find_perceptual
from vidgen.metrics.intervals import mean_interval
from vidgen.pipelines.loading import load_tokenizer
from vidgen.tokenizers.evaluation.protocols import ClipProtocol
from vidgen.tokenizers.evaluation.rate_distortion import Sweep
from vidgen.tokenizers.evaluation.reconstruction import evaluate
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.ablations.variants import EvaluationConfig
from vidgen.train.config import LoopConfig, TokenizerRecipe

Say = Callable[[str], None]  # hears of what is being done


@torch.no_grad()
def measure_variant(
    recipe: TokenizerRecipe, records: Sequence[ClipRecord], evaluation: EvaluationConfig, say: Say
) -> dict[str, Any]:
    """Return one trained variant's row: fidelity with intervals, points of rate and distortion, usage, and its cost."""
    # In float32 whatever it was trained in: a comparison should not depend on how a machine rounds.
    tokenizer = load_tokenizer(str(Path(recipe.out) / "final"), device=recipe.device, dtype=torch.float32)
    perceptual, _, network = find_perceptual(recipe.device)
    protocol = ClipProtocol(num_frames=evaluation.num_frames, size=tuple(evaluation.size))
    sweep = Sweep(steps=tuple(evaluation.steps), codecs=())
    report = evaluate(tokenizer, records, protocol, perceptual=perceptual, sweep=sweep, say=say)
    usage = report["usage"]
    if usage is not None:
        usage["reachable"] = min(1.0, usage["tokens"] / usage["codebook_size"])
    return {
        "tokenizer": tokenizer.config.name,
        "parameters": count_parameters(tokenizer),
        "train": training_cost(recipe),
        "mean": report["mean"],
        "ci": report["ci"],
        "point": f"step {evaluation.step:g}" if usage is None else "tokens",
        "points": summarize_points(report["rate_distortion"]["clips"]),
        "usage": usage,
        "usage_left_out": "continuous: no codebook" if usage is None else "",
        "lpips_network": network,
        "left_out": report["left_out"],
        "clips": report["clips"],
        "dropped": report["dropped"],
    }


def summarize_points(clips: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means over clips at each operating point, "psnr" and "ssim" with "ci"; None where a clip has no value."""
    rows = []
    for points in zip(*(clip["points"] for clip in clips), strict=True):
        row: dict[str, Any] = {"name": points[0]["name"], "ci": {}}
        for key in ("raw_bpp", "entropy_bpp", "coded_bpp", "psnr", "ssim"):
            values = [point[key] for point in points]
            mean = None if None in values else mean_interval(values)
            row[key] = None if mean is None else mean.mean
            if key in ("psnr", "ssim"):
                row["ci"][key] = list(mean.interval) if mean is not None and mean.interval else None
        rows.append(row)
    return rows


def count_parameters(tokenizer: VideoTokenizer) -> dict[str, int]:
    """Return numbers of weights of each part, and in all; learned codebooks count, though they are buffers."""

    def numbers(module: nn.Module) -> int:
        books = [buffer for name, buffer in module.named_buffers() if name.split(".")[-1] == "vectors"]
        return sum(value.numel() for value in [*module.parameters(), *books])

    parts = {part: numbers(getattr(tokenizer, part)) for part in ("encoder", "bottleneck", "decoder")}
    return {**parts, "total": sum(parts.values())}


def training_cost(recipe: LoopConfig) -> dict[str, Any]:
    """Return what the training took: steps, clips, seconds and rollbacks.

    "seconds" are the mean of the steps that the log has, times their number, so neither validation nor a pause between
    two commands counts; None where nothing was logged.
    """
    seconds: dict[int, float] = {}
    rollbacks = 0
    log = Path(recipe.out) / "metrics.jsonl"
    for _, row in read_json_lines(log, cut_short="any") if log.is_file() else []:
        rollbacks = max(rollbacks, row.get("rollbacks", 0))
        if "clips_per_s" in row:
            seconds[row["step"]] = recipe.batch_size / row["clips_per_s"]
    return {
        "steps": recipe.steps,
        "clips": recipe.steps * recipe.batch_size,
        "seconds": round(recipe.steps * fmean(seconds.values()), 3) if seconds else None,
        "rollbacks": rollbacks,
    }
