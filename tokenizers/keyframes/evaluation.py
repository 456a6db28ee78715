"""Evaluation of a key frame tokenizer on clips: three ways to decode, and bits of key frames and of motion apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vidgen.data.manifests import ClipRecord
from vidgen.data.motion_vectors import MotionVectors, read_motion_vectors, towards_keys
from vidgen.errors import VideoError, VidgenError
from vidgen.metrics.clip_metrics import ClipMetrics
from vidgen.metrics.intervals import METHOD, mean_interval
from vidgen.tokenizers.evaluation.protocols import ClipProtocol, open_windows
from vidgen.tokenizers.evaluation.reconstruction import average, measure_each
from vidgen.tokenizers.keyframes.ablation import VARIANTS, decode_variants
from vidgen.tokenizers.keyframes.codes import join_codes
from vidgen.tokenizers.keyframes.files import stack_groups
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.keyframes.rates import code_parts, vector_bits

MEASURES = ("psnr", "ssim", "rest_psnr", "temporal_psnr", "flicker")
Motion = Literal["matched", "file"]


def evaluate_keyframes(
    tokenizer: KeyframeTokenizer,
    records: Sequence[ClipRecord],
    protocol: ClipProtocol,
    *,
    motion: Motion = "matched",
    step: float = 0.5,
    progress: Callable[[int], None] = lambda done: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure the first window of every clip, in memory that grows with its tokens only.

    Args:
        tokenizer: The tokenizer that is measured.
        records: The clips.
        protocol: Which frames are taken of each, and at which size.
        motion: "matched" to the pixels, or the vectors in the "file", which needs frames as the file has them.
        step: Continuous latents are rounded to multiples of so many standard deviations, before they are decoded and
            counted.
        progress: Hears after every clip how many are done.
        say: Hears of every clip that cannot be used.

    Returns:
        Plain data: "ways" {variant: {metric: mean}}, "ci" alike, "gain" (PSNR of learned less vectors in dB: "mean",
        "ci"), "bits_per_pixel" {"key" and "motion": {"raw", "entropy", "coded"}, "vectors": {"coded"}}, "clips",
        "dropped" (the clips that cannot be used).

    Raises VidgenError if no clip can be used.
    """
    if motion == "file" and (protocol.size or protocol.max_side or protocol.fps or protocol.near_fps):
        raise VidgenError("motion of the file fits the frames that it has: leave size and frame rate as they are")
    rows, dropped = measure_each(
        records, lambda record: evaluate_clip(tokenizer, record, protocol, motion, step), progress, say
    )
    return summarize(rows) | {"step": step, "motion": motion, "clips": rows, "dropped": dropped}


@torch.inference_mode()
def evaluate_clip(
    tokenizer: KeyframeTokenizer, record: ClipRecord, protocol: ClipProtocol, motion: Motion, step: float
) -> dict[str, Any]:
    """Return the row of one clip. Raises VideoError if it cannot be read, or brings no motion where the file should."""
    opened = open_windows(record, protocol)
    gop = tokenizer.config.gop
    vectors = read_fields(record, gop) if motion == "file" else None
    meters = {variant: ClipMetrics(chunk=gop, multiscale=False) for variant in VARIANTS}
    device = tokenizer.device
    codes, fields = [], []
    done = 0
    for piece in stack_groups(next(iter(opened.windows)), gop):
        frames = piece.shape[2]
        field = None if vectors is None else fields_of(vectors, done, frames, piece, record).to(device)
        variants = decode_variants(tokenizer, piece.to(device), field, step)
        for variant, meter in meters.items():
            meter.add(piece[0], getattr(variants, variant)[0].cpu())
        moving = [k for k in range(frames) if (done + k) % gop]
        fields.append(variants.field[:, :, moving])
        codes.append(replace(variants.codes, losses={}))
        done += frames
    whole = join_codes(codes, gop)
    pixels = done * whole.height * whole.width
    row = {"path": str(record.path), "frames": done, "height": whole.height, "width": whole.width}
    scores = {variant: meter.score() for variant, meter in meters.items()}
    row |= {variant: {name: average([getattr(score, name)]) for name in MEASURES} for variant, score in scores.items()}
    bits = {
        part: {"raw": point.raw_bits, "entropy": point.entropy_bits, "coded": point.coded_bits}
        for part, point in code_parts(tokenizer, whole, step).items()
    } | {"vectors": {"coded": vector_bits(torch.cat(fields, dim=2))}}
    row["bits_per_pixel"] = {
        part: {name: round(value / pixels, 6) for name, value in rates.items()} for part, rates in bits.items()
    }
    return row | {"note": "; ".join(opened.notes)}


def read_fields(record: ClipRecord, gop: int) -> tuple[MotionVectors, np.ndarray]:
    """Return the vectors of a clip's file and their fields to key frames. Raises VideoError for a part of a file."""
    if record.start:
        raise VideoError(f"{record.path}: motion of the file is read from its beginning, not from {record.start:g} s")
    vectors = read_motion_vectors(record.path)
    return vectors, towards_keys(vectors, gop)


def fields_of(
    vectors: tuple[MotionVectors, np.ndarray], first: int, count: int, like: Tensor, record: ClipRecord
) -> Tensor:
    """Return the fields (1, 2, count, i, j) of frames from `first` on. Raises VideoError where the file has others."""
    motion, fields = vectors
    padded = (motion.height - like.shape[3], motion.width - like.shape[4])  # files pad odd sizes by one
    if len(fields) < first + count or not set(padded) <= {0, 1}:
        raise VideoError(
            f"{record.path}: vectors of {len(fields)} frames of {motion.height}x{motion.width} do not fit frames "
            f"{first} to {first + count} of {like.shape[3]}x{like.shape[4]}"
        )
    part = torch.from_numpy(fields[first : first + count])
    return part.movedim(-1, 0)[None]


def summarize(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return means over clips, each counting once, with intervals."""
    means: dict[str, Any] = {variant: {} for variant in VARIANTS}
    intervals: dict[str, Any] = {variant: {} for variant in VARIANTS}
    for variant in VARIANTS:
        for name in MEASURES:
            values = [row[variant][name] for row in rows if row[variant][name] is not None]
            if values:
                estimate = mean_interval(values)
                means[variant][name] = round(estimate.mean, 4)
                intervals[variant][name] = estimate.interval
    gain = mean_interval([row["learned"]["psnr"] - row["vectors"]["psnr"] for row in rows])
    parts = rows[0]["bits_per_pixel"]
    rates = {
        part: {name: float(np.mean([row["bits_per_pixel"][part][name] for row in rows])) for name in parts[part]}
        for part in parts
    }
    return {
        "ways": means,
        "ci": intervals,
        "ci_method": METHOD,
        "gain": {"mean": round(gain.mean, 4), "ci": gain.interval},
        "bits_per_pixel": rates,
    }
