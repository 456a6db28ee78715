"""`vidgen tokenizer nerv`: one clip as a small network of its own; `vidgen tokenizer decode` gives it back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.clips import Cut, CutOptions, default_output, open_frames
from vidgen.scripts.cli.memory import parse_bytes
from vidgen.scripts.cli.option_sets import FastHardwareOptions, with_option_sets
from vidgen.scripts.cli.options import JsonOption, SeedOption
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import describe_memory, note, pluralize, print_json, progress

if TYPE_CHECKING:
    import numpy as np

    from vidgen.scripts.tokenizer.decode import Part
    from vidgen.tokenizers.nerv.clip import ClipNeRV

DEFAULT_BPP = 0.3


@with_option_sets
def nerv(
    *,
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A clip; all of its frames are held in memory.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write. Default: NAME.safetensors here.")
    ] = None,
    bpp: Annotated[
        float | None,
        typer.Option(min=0.0, max=64.0, help=f"The most bits a pixel that the file may take. Default: {DEFAULT_BPP}."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--bytes", metavar="80KB", help="The most bytes that it may take, instead of --bpp.")
    ] = None,
    bits: Annotated[int, typer.Option(min=2, max=8, help="Bits of every stored number, 2 to 8.")] = 8,
    steps: Annotated[int, typer.Option(min=1, max=10**6, help="Training steps: more are slower and better.")] = 2000,
    lr: Annotated[float, typer.Option(min=0.0, max=100.0, help="The highest learning rate of the training.")] = 3e-3,
    cutting: CutOptions,
    seed: SeedOption = 0,
    hardware: FastHardwareOptions,
    json: JsonOption = False,
) -> None:
    """Overfit a small decoder to one clip, and store it with an embedding a frame: weights are the code (HNeRV).

    Bits a pixel and PSNR are of the file as it is read back. Example: vidgen tokenizer nerv clip.mp4 --bpp 0.3
    """
    if bpp is not None and budget is not None:
        raise VidgenError("--bpp and --bytes both say how large the result may be; give one of them")
    if bpp is not None and not 0 < bpp < 1000:
        raise VidgenError(f"--bpp {bpp:g} is no rate; give bits a pixel above 0, such as {DEFAULT_BPP}")
    if not 0 < lr < 1:
        raise VidgenError(f"--lr {lr:g} is no learning rate; give one such as 3e-3")
    cut = cutting.read()
    max_bytes = parse_bytes(budget, "--bytes")
    target = output or default_output(clip, ".safetensors")
    check_output(target)
    frames, rate = read_frames(clip, cut)
    max_bits = 8.0 * max_bytes if max_bytes is not None else (bpp or DEFAULT_BPP) * frames[..., 0].size
    settings = {"steps": steps, "lr": lr, "seed": seed}
    report = fit_nerv(clip, frames, rate, target, max_bits, bits, settings, hardware)
    print_json(report) if json else print(describe(report))


def read_frames(clip: Path, cut: Cut) -> tuple[np.ndarray, float]:
    """Return the frames (t, h, w, 3) and their rate. Raises VideoError for what is no clip."""
    import numpy as np

    from vidgen.data.manifests import find_clips

    records = find_clips(clip)
    if len(records) != 1:
        raise VidgenError(f"{clip}: holds {len(records)} clips; a network is of one, name it")
    opened = open_frames(records[0].path, cut, records[0])
    return np.stack(list(opened.counted())), opened.fps


def fit_nerv(
    clip: Path,
    frames: np.ndarray,
    fps: float,
    target: Path,
    max_bits: float,
    bits: int,
    settings: dict[str, Any],
    hardware: FastHardwareOptions,
) -> dict[str, Any]:
    """Train the network, write it, read it back, and return the report on it.

    Args:
        clip: the file of the clip, whose name is stored.
        frames: its frames, (t, h, w, 3).
        fps: their rate.
        target: the file to write.
        max_bits: the most bits that the network may take.
        bits: the bits of every stored number.
        settings: steps, lr and seed of the training.
        hardware: where it is trained, and in which precision.
    """
    from vidgen.tokenizers.nerv.clip import choose_config, quantize_clip
    from vidgen.tokenizers.nerv.files import read_nerv, write_nerv
    from vidgen.train.tasks.nerv import FittingConfig, fit_clip

    placement = hardware.settings()
    started = time.perf_counter()
    shape = choose_config(*frames.shape[1:3], len(frames), bits=bits, budget=max_bits)
    precision = "bfloat16" if str(placement["dtype"]) == "torch.bfloat16" else "float32"
    fitting = FittingConfig(**settings, device=placement["device"], autocast=precision)
    with progress(clip.name, fitting.steps) as advance:
        fitted = fit_clip(frames, shape, fitting, progress=advance)
    write_nerv(quantize_clip(fitted.decoder, fitted.embeddings, bits=bits, fps=fps, source=clip.name), target)
    seconds = round(time.perf_counter() - started, 2)
    training = {**settings, "autocast": precision, "seconds": seconds, "psnr_unquantised": round(fitted.psnr, 4)}
    return measure(read_nerv(target), frames, target) | training


def measure(stored: ClipNeRV, frames: np.ndarray, path: Path) -> dict[str, Any]:
    """Return rate and fidelity of a stored clip, which was read back from `path`."""
    from vidgen.tokenizers.evaluation.rate_distortion import score_pieces
    from vidgen.tokenizers.nerv.clip import cost_of

    cost = cost_of(stored)
    pixels = frames.shape[0] * stored.height * stored.width
    score = score_pieces(frames, stored.decode())
    weights, embeddings = stored.symbols()
    return {
        "path": str(path),
        "source": stored.source,
        "num_frames": stored.num_frames,
        "height": stored.height,
        "width": stored.width,
        "fps": stored.fps,
        "bits": stored.bits,
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
    """Return the report in one line."""
    frames = f"{report['num_frames']} frames of {report['height']}x{report['width']}"
    parts = f"weights {report['weights_bpp']:.4f}, embeddings {report['embeddings_bpp']:.4f}"
    rate = f"{report['coded_bpp']:.4f} bits a pixel ({parts}; file {report['bytes']:,} bytes)"
    fidelity = f"PSNR {report['psnr']:.2f} dB decoded from it ({report['psnr_unquantised']:.2f} before quantizing)"
    return f"{report['path']}: {frames}, {rate}, {fidelity}{describe_memory()}"


def holds_nerv(path: Path) -> bool:
    """Return whether a file holds the network of a clip rather than tokens."""
    from vidgen.tokenizers.nerv.files import is_nerv

    return is_nerv(path)


def decode_nerv(path: Path, target: Path, part: Part, device: str, as_json: bool) -> None:
    """Write the clip of a network, or a part of it."""
    from vidgen.data.writing import write_video
    from vidgen.tokenizers.nerv.files import read_nerv

    stored = read_nerv(path)
    start, stop = part.frames(path, stored)
    pieces = stored.decode(start, stop, device=device)
    write_video((frame for piece in pieces for frame in piece.split(1, dim=1)), target, fps=stored.fps)
    row = {"path": str(target), "source": str(path), "num_frames": stop - start, "start_frame": start}
    row |= {"height": stored.height, "width": stored.width, "fps": stored.fps}
    if as_json:
        print_json(row)
    else:
        note(f"{path}: a fitted clip, which needs no model")
        print(f"{target}: {pluralize(stop - start, 'frame')} of {stored.height}x{stored.width}{describe_memory()}")
