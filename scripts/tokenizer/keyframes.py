"""`vidgen tokenizer keyframes`: rate and quality of key frames and motion, beside what they have to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.bounds import FRAMES
from vidgen.errors import VidgenError
from vidgen.scripts.cli.option_sets import FastHardwareOptions, with_option_sets
from vidgen.scripts.cli.options import (
    ClipsArgument,
    FitOption,
    FpsOption,
    JsonOption,
    SizeOption,
    parse_size,
)
from vidgen.scripts.cli.printing import format_interval, note, pluralize, print_json, print_table, progress

MOTIONS = ("matched", "file")


@with_option_sets
def keyframes(
    *,
    source: ClipsArgument,
    model: Annotated[
        str, typer.Option(help="Folder of a key frame tokenizer, as the recipe keyframe_motion trains it.")
    ],
    motion: Annotated[
        str,
        typer.Option(
            help="Where motion vectors come from: matched to the pixels, or those in the file (H.264, MPEG-4)."
        ),
    ] = "matched",
    step: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=100.0,
            help="Step that continuous latents of key frames are rounded to, in standard deviations.",
        ),
    ] = 0.5,
    size: SizeOption = None,
    fit: FitOption = "crop",
    num_frames: Annotated[
        int | None,
        typer.Option(
            **FRAMES.limits, help="Take the first N frames, and leave shorter clips out. Default: all frames."
        ),
    ] = None,
    fps: FpsOption = None,
    hardware: FastHardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure key frames and motion: repeated, moved by the vectors alone, and decoded; bits of each part.

    Example: vidgen tokenizer keyframes clips --model runs/keyframe_motion/final --size 128 --num-frames 33
    """
    if motion not in MOTIONS:
        raise VidgenError(f"--motion {motion!r}: choose one of {', '.join(MOTIONS)}")
    if not step > 0:
        raise VidgenError(f"--step {step:g}: give a step size above 0, such as 0.5")
    clip_options = {"size": parse_size(size), "fit": fit, "num_frames": num_frames, "fps": fps}
    coding = {"motion": motion, "step": step}
    report = {"model": model, **measure(source, model, clip_options, coding, hardware)}
    if json:
        print_json(report)
        return
    print_report(report)


def measure(
    source: Path, model: str, clip_options: dict[str, Any], coding: dict[str, Any], hardware: FastHardwareOptions
) -> dict[str, Any]:
    """Return the report of `evaluate_keyframes`, with the name of the tokenizer."""
    from vidgen.data.manifests import find_clips
    from vidgen.tokenizers.evaluation.protocols import ClipProtocol
    from vidgen.tokenizers.keyframes.evaluation import evaluate_keyframes
    from vidgen.tokenizers.keyframes.model import KeyframeTokenizer

    records = find_clips(source)
    tokenizer = KeyframeTokenizer.from_pretrained(model, **hardware.settings())
    protocol = ClipProtocol(**clip_options)
    with progress(source.name, len(records)) as advance:
        report = evaluate_keyframes(tokenizer, records, protocol, progress=advance, say=note, **coding)
    return {"tokenizer": tokenizer.config.name, **report}


def print_report(report: dict[str, Any]) -> None:
    """Print a line a way to decode, and a line a part of the bits."""
    remarks = {
        "repeated": "key frames stand, no motion",
        "vectors": "key frames moved by the vectors, uncoded",
        "learned": "what is decoded",
    }
    rows = []
    for way, means in report["ways"].items():
        interval = format_interval(report["ci"][way]["psnr"], digits=2)
        others = [f"{means[name]:.3f}" if name in means else "-" for name in ("ssim", "temporal_psnr", "flicker")]
        rows.append((way, f"{means['psnr']:.2f}", interval, *others, remarks[way]))
    columns = ("way", ">PSNR dB", ">95% interval", ">SSIM", ">temporal PSNR dB", ">flicker", "note")
    title = f"{report['model']}, {pluralize(len(report['clips']), 'clip')}, motion {report['motion']}"
    print_table(title, columns, rows)
    rates = report["bits_per_pixel"]
    names = ("raw", "entropy", "coded")
    rows = [(part, *(f"{bits[n]:.4f}" if n in bits else "-" for n in names)) for part, bits in rates.items()]
    print_table("bits a pixel", ("part", *(f">{name}" for name in names)), rows)
    gain = report["gain"]
    interval = "" if gain["ci"] is None else f" (95% {gain['ci'][0]:+.2f} to {gain['ci'][1]:+.2f})"
    note(f"learned less vectors: {gain['mean']:+.2f} dB{interval}")
