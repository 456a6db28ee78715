"""`vidgen tokenizer keyframes`: what key frames and motion cost and give, beside what they have to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import (
    DeviceOption,
    Dtype,
    DtypeOption,
    FitOption,
    FpsOption,
    JsonOption,
    SizeOption,
    check_rate,
    find_device,
    find_dtype,
    parse_size,
)
from vidgen.scripts.cli.printing import note, print_json, print_table, progress

MOTIONS = ("matched", "file")


def keyframes(
    source: Annotated[Path, typer.Argument(metavar="CLIP|DIR", help="A clip, or a folder or manifest of clips.")],
    model: Annotated[str, typer.Option(help="Folder of a key frame tokenizer, as keyframe_motion trains it.")],
    motion: Annotated[
        str, typer.Option(help="Whose vectors: 'matched' to the pixels, or those in the 'file' (H.264, MPEG-4).")
    ] = "matched",
    step: Annotated[
        float, typer.Option(help="Step of rounded latents, in standard deviations, for continuous key frames.")
    ] = 0.5,
    size: SizeOption = None,
    fit: FitOption = "crop",
    num_frames: Annotated[
        int | None, typer.Option("--num-frames", min=1, help="Take the first N frames; leave shorter clips out.")
    ] = None,
    fps: FpsOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Measure key frames and motion: repeated, moved by the vectors alone, and decoded; bits of each part.

    Example: vidgen tokenizer keyframes clips --model runs/keyframe_motion/final --size 128 --num-frames 33
    """
    check_rate(fps)
    if motion not in MOTIONS:
        raise VidgenError(f"--motion {motion!r}: choose one of {', '.join(MOTIONS)}")
    if not step > 0:
        raise VidgenError(f"--step {step:g}: give a step size above 0, such as 0.5")
    own = {"size": parse_size(size), "fit": fit, "num_frames": num_frames, "fps": fps}
    report = {"model": model, **measure(source, model, own, {"motion": motion, "step": step}, device, dtype)}
    if json:
        print_json(report)
        return
    print_report(report)


def measure(
    source: Path, model: str, own: dict[str, Any], how: dict[str, Any], device: str, dtype: Dtype
) -> dict[str, Any]:
    """The report of `evaluate_keyframes`, with the name of the model."""
    from vidgen.data.manifests import find_clips
    from vidgen.tokenizers.evaluation.protocols import ClipProtocol
    from vidgen.tokenizers.keyframes.evaluation import evaluate_keyframes
    from vidgen.tokenizers.keyframes.model import KeyframeTokenizer

    records, where = find_clips(source), find_device(device)
    tokenizer = KeyframeTokenizer.from_pretrained(model, dtype=find_dtype(dtype, where), device=where)
    with progress(source.name, len(records)) as moved:
        report = evaluate_keyframes(tokenizer, records, ClipProtocol(**own), progress=moved, say=note, **how)
    return {"tokenizer": tokenizer.config.name, **report}


def print_report(report: dict[str, Any]) -> None:
    """A line a way to decode, and a line a part of the bits."""
    abouts = {
        "repeated": "key frames stand, no motion",
        "vectors": "key frames moved by the vectors, uncoded",
        "learned": "what is decoded",
    }
    rows = []
    for way, means in report["ways"].items():
        interval = report["ci"][way]["psnr"]
        spread = "-" if interval is None else f"{interval[0]:.2f} - {interval[1]:.2f}"
        more = [f"{means[name]:.3f}" if name in means else "-" for name in ("ssim", "temporal_psnr", "flicker")]
        rows.append((way, f"{means['psnr']:.2f}", spread, *more, abouts[way]))
    columns = ("way", ">PSNR dB", ">95% interval", ">SSIM", ">temporal PSNR dB", ">flicker", "note")
    print_table(f"{report['model']}, {len(report['clips'])} clips, motion {report['motion']}", columns, rows)
    rates = report["bits_per_pixel"]
    names = ("raw", "entropy", "coded")
    rows = [(part, *(f"{found[n]:.4f}" if n in found else "-" for n in names)) for part, found in rates.items()]
    print_table("bits a pixel", ("part", *(f">{name}" for name in names)), rows)
    gain = report["gain"]
    spread = "" if gain["ci"] is None else f" (95% {gain['ci'][0]:+.2f} to {gain['ci'][1]:+.2f})"
    note(f"learned less vectors: {gain['mean']:+.2f} dB{spread}")
