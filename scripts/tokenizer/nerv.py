"""`vidgen tokenizer fit`: one clip as a small network of its own; `vidgen tokenizer decode` gives it back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.clips import Cut, default_output, open_frames
from vidgen.scripts.cli.memory import parse_bytes
from vidgen.scripts.cli.options import (
    DeviceOption,
    Dtype,
    DtypeOption,
    FitOption,
    FpsOption,
    JsonOption,
    SeedOption,
    SizeOption,
    check_rate,
    find_device,
    find_dtype,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import describe_memory, note, print_json, progress

if TYPE_CHECKING:
    import numpy as np

    from vidgen.scripts.tokenizer.decode import Part
    from vidgen.tokenizers.nerv.clip import ClipNeRV

DEFAULT_BPP = 0.3


def fit(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A clip; all of its frames are held in memory.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; default: NAME.safetensors here.")
    ] = None,
    bpp: Annotated[
        float | None, typer.Option("--bpp", help=f"Bits a pixel to stay within; default: {DEFAULT_BPP}.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--bytes", metavar="80KB", help="Size to stay within, in place of --bpp.")
    ] = None,
    bits: Annotated[int, typer.Option("--bits", help="Bits a weight and a number of an embedding, 2 to 8.")] = 8,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps; more are slower and better.")] = 2000,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate at its peak.")] = 3e-3,
    size: SizeOption = None,
    fit_how: FitOption = "crop",
    num_frames: Annotated[int | None, typer.Option("--num-frames", min=1, help="Take the first N frames.")] = None,
    fps: FpsOption = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="Take the first S seconds.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Overfit a small decoder to one clip, and store it with an embedding a frame: weights are the code (HNeRV).

    Bits a pixel and PSNR are of the file as it is read back. Example: vidgen tokenizer fit clip.mp4 --bpp 0.3
    """
    check_rate(fps)
    if bpp is not None and budget is not None:
        raise VidgenError("--bpp and --bytes both say how large the result may be; give one of them")
    if bpp is not None and not 0 < bpp < 1000:
        raise VidgenError(f"--bpp {bpp:g} is no rate; give bits a pixel above 0, such as {DEFAULT_BPP}")
    if not 0 < lr < 1:
        raise VidgenError(f"--lr {lr:g} is no learning rate; give one such as 3e-3")
    cut = Cut(size=parse_size(size), fit=fit_how, num_frames=num_frames, fps=fps, max_seconds=max_seconds).checked()
    most = parse_bytes(budget, "--bytes")
    target = output or default_output(clip, ".safetensors")
    check_output(target)
    frames, rate = read_frames(clip, cut)
    pixels = frames.shape[0] * frames.shape[1] * frames.shape[2]
    room = 8.0 * most if most is not None else (bpp or DEFAULT_BPP) * pixels
    report = run_fit(clip, frames, rate, target, room, bits, {"steps": steps, "lr": lr, "seed": seed}, device, dtype)
    print_json(report) if json else print(describe(report))


def read_frames(clip: Path, cut: Cut) -> tuple[np.ndarray, float]:
    """The frames (t, h, w, 3) and their rate. Raises VideoError for what is no clip."""
    import numpy as np

    from vidgen.data.manifests import find_clips

    records = find_clips(clip)
    if len(records) != 1:
        raise VidgenError(f"{clip}: holds {len(records)} clips; a fit is of one, name it")
    opened = open_frames(records[0].path, cut, records[0])
    return np.stack(list(opened.counted())), opened.fps


def run_fit(
    clip: Path,
    frames: np.ndarray,
    fps: float,
    target: Path,
    room: float,
    bits: int,
    settings: dict[str, Any],
    device: str,
    dtype: Dtype,
) -> dict[str, Any]:
    """Fits, writes, reads back and measures; `room` is in bits."""
    from vidgen.tokenizers.nerv.clip import choose_config, quantize_clip
    from vidgen.tokenizers.nerv.files import read_fit, write_fit
    from vidgen.train.tasks.nerv import FittingConfig, fit_clip

    where, started = find_device(device), time.perf_counter()
    shape = choose_config(*frames.shape[1:3], len(frames), bits=bits, budget=room)
    precision = "bfloat16" if str(find_dtype(dtype, where)) == "torch.bfloat16" else "float32"
    fitting = FittingConfig(**settings, device=where, autocast=precision)
    with progress(clip.name, fitting.steps) as moved:
        fitted = fit_clip(frames, shape, fitting, progress=moved)
    write_fit(quantize_clip(fitted.decoder, fitted.embeddings, bits=bits, fps=fps, source=clip.name), target)
    seconds = round(time.perf_counter() - started, 2)
    made = {**settings, "autocast": precision, "seconds": seconds, "psnr_unquantised": round(fitted.psnr, 4)}
    return measure(read_fit(target), frames, target) | made


def measure(fit: ClipNeRV, frames: np.ndarray, path: Path) -> dict[str, Any]:
    """Rate and fidelity of a stored clip, from what was read back from `path`."""
    from vidgen.tokenizers.evaluation.rate_distortion import score_pieces
    from vidgen.tokenizers.nerv.clip import cost_of

    cost, pixels = cost_of(fit), frames.shape[0] * fit.height * fit.width
    score = score_pieces(frames, fit.decode())
    weights, embeddings = fit.symbols()
    return {
        "path": str(path),
        "source": fit.source,
        "num_frames": fit.num_frames,
        "height": fit.height,
        "width": fit.width,
        "fps": fit.fps,
        "bits": fit.bits,
        "decoder_values": len(weights),
        "embedding_values": len(embeddings),
        "raw_bpp": cost.raw / pixels,
        "entropy_bpp": cost.entropy / pixels,
        "coded_bpp": cost.coded / pixels,
        "weights_bpp": cost.weights / pixels,
        "embeddings_bpp": cost.embeddings / pixels,
        "file_bpp": 8 * path.stat().st_size / pixels,
        "bytes": path.stat().st_size,
        "psnr": round(score.psnr, 4),
        "ssim": None if score.ssim is None else round(score.ssim, 5),
    }


def describe(report: dict[str, Any]) -> str:
    frames = f"{report['num_frames']} frames of {report['height']}x{report['width']}"
    parts = f"weights {report['weights_bpp']:.4f}, embeddings {report['embeddings_bpp']:.4f}"
    rate = f"{report['coded_bpp']:.4f} bits a pixel ({parts}; file {report['bytes']:,} bytes)"
    fidelity = f"PSNR {report['psnr']:.2f} dB decoded from it ({report['psnr_unquantised']:.2f} before quantizing)"
    return f"{report['path']}: {frames}, {rate}, {fidelity}{describe_memory()}"


def holds_fit(path: Path) -> bool:
    """Whether `vidgen tokenizer decode` was given a fitted clip."""
    from vidgen.tokenizers.nerv.files import is_fit

    return is_fit(path)


def decode_fit(path: Path, target: Path, part: Part, device: str, as_json: bool) -> None:
    """Writes the clip of a fitted one, or a part of it."""
    from vidgen.data.writing import write_video
    from vidgen.tokenizers.nerv.files import read_fit

    stored = read_fit(path)
    start, stop = part.frames(path, stored)
    pieces = stored.decode(start, stop, device=device)
    write_video((frame for piece in pieces for frame in piece.split(1, dim=1)), target, fps=stored.fps)
    row = {"path": str(target), "source": str(path), "num_frames": stop - start, "start_frame": start}
    row |= {"height": stored.height, "width": stored.width, "fps": stored.fps}
    if as_json:
        print_json(row)
    else:
        note(f"{path}: a fitted clip, which needs no model")
        print(f"{target}: {stop - start} frames of {stored.height}x{stored.width}{describe_memory()}")
