"""`vidgen tokenizer`: clips to token files and back, and reconstructions with their PSNR; in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.clips import Cut, default_output, list_jobs, open_frames
from vidgen.scripts.options import (
    DeviceOption,
    Dtype,
    DtypeOption,
    FitOption,
    FpsOption,
    JsonOption,
    ModelOption,
    SizeOption,
    check_rate,
    find_device,
    find_dtype,
    parse_size,
)
from vidgen.scripts.outputs import check_output
from vidgen.scripts.reconstructing import reconstruct_clip
from vidgen.scripts.reporting import describe_memory, note, peak_memory_mb, print_json, print_table, progress

if TYPE_CHECKING:
    from vidgen.tokenizers.model import VideoTokenizer

app = typer.Typer(no_args_is_help=True, help="Clips to latents and back: encode, decode, reconstruct.")

OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", help="File to write; default: the input's name, in this folder.")
]
FramesOption = Annotated[int | None, typer.Option("--num-frames", min=1, help="Take the first N frames.")]
SecondsOption = Annotated[float | None, typer.Option("--max-seconds", help="Take the first S seconds.")]
LenientOption = Annotated[
    bool, typer.Option("--lenient", help="Of a damaged clip, take the frames before the damage, and say so.")
]


def open_tokenizer(model: str, device: str, dtype: Dtype) -> VideoTokenizer:
    from vidgen.tokenizers.loading import load_tokenizer

    where = find_device(device)
    return load_tokenizer(model, device=where, dtype=find_dtype(dtype, where))


@app.command()
def encode(
    clip: Annotated[Path, typer.Argument(help="A video, an image, or a folder of numbered frames.")],
    output: OutputOption = None,
    model: ModelOption = "default",
    size: SizeOption = None,
    fit: FitOption = "crop",
    num_frames: FramesOption = None,
    fps: FpsOption = None,
    max_seconds: SecondsOption = None,
    lenient: LenientOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write the latents of a clip to a token file (.safetensors)."""
    check_rate(fps)
    cut = Cut(
        size=parse_size(size), fit=fit, num_frames=num_frames, fps=fps, max_seconds=max_seconds, lenient=lenient
    ).checked()
    target = output or default_output(clip, ".safetensors")
    check_output(target)
    opened = open_frames(clip, cut)

    import torch

    from vidgen.tokenizers.model import Encoded
    from vidgen.tokenizers.streaming import encode_stream
    from vidgen.tokenizers.token_files import write_tokens

    tokenizer = open_tokenizer(model, device, dtype)
    with progress(clip.name, opened.expected) as moved:
        latents = torch.cat(list(encode_stream(tokenizer, opened.counted(moved))), dim=2)
    height, width = opened.size
    encoded = Encoded(latents=latents, num_frames=opened.count, height=height, width=width)
    write_tokens(target, encoded, tokenizer, fps=opened.fps, extra={"source": clip.name, "model": model})
    for problem in opened.problems:
        note(f"warning: {problem}")
    shape = tuple(latents.shape[1:])
    if json:
        frames = {"num_frames": opened.count, "height": height, "width": width, "fps": opened.fps}
        values = {
            "path": str(target),
            "source": str(clip),
            **frames,
            "latents": list(shape),
            "peak_mb": peak_memory_mb(),
        }
        print_json(values)
        return
    print(f"{target}: {opened.count} frames of {height}x{width} as latents {shape}{describe_memory()}")


@app.command()
def decode(
    tokens: Annotated[Path, typer.Argument(help="A token file of `encode`, or the latents of `sample`.")],
    output: OutputOption = None,
    model: ModelOption = "default",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write the clip of a token file."""
    target = output or default_output(tokens, ".mp4")
    check_output(target, folder=target.suffix == "")

    from vidgen.data.writing import write_video
    from vidgen.tokenizers.streaming import decode_stream
    from vidgen.tokenizers.token_files import read_tokens

    read_tokens(tokens)  # before the weights: quick to fail
    tokenizer = open_tokenizer(model, device, dtype)
    clip = read_tokens(tokens, tokenizer)
    size = {"num_frames": clip.num_frames, "height": clip.height, "width": clip.width}
    check_latents(tokens, clip, tokenizer)
    write_video(decode_stream(tokenizer, clip.latents, **size), target, fps=clip.fps)
    if json:
        print_json({"path": str(target), **size, "fps": clip.fps, "peak_mb": peak_memory_mb()})
        return
    print(f"{target}: {clip.num_frames} frames of {clip.height}x{clip.width}{describe_memory()}")


def check_latents(path: Path, clip: Any, tokenizer: VideoTokenizer) -> None:
    """Raises VidgenError unless the latents have the shape that their frames need."""
    c = tokenizer.config
    t = 1 + -(-(clip.num_frames - 1) // c.ratio_t)
    wanted = (1, c.latent_channels, t, -(-clip.height // c.ratio), -(-clip.width // c.ratio))
    if tuple(clip.latents.shape) != wanted:
        raise VidgenError(f"{path}: latents {tuple(clip.latents.shape)}, {wanted} wanted; encode the clip again")


@app.command()
def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="CLIP|DIR", help="A clip, or a folder or manifest of clips.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File, or folder for a folder; default: only the PSNR.")
    ] = None,
    model: ModelOption = "default",
    size: SizeOption = None,
    fit: FitOption = "crop",
    num_frames: FramesOption = None,
    fps: FpsOption = None,
    max_seconds: SecondsOption = None,
    side_by_side: Annotated[bool, typer.Option("--side-by-side", help="Original left, reconstruction right.")] = False,
    lenient: LenientOption = False,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Encode and decode clips, write what comes back, and print its PSNR (dB).

    Of a folder, clips that cannot be read are named and left out. Example: vidgen tokenizer reconstruct clips -o out
    """
    check_rate(fps)
    cut = Cut(
        size=parse_size(size), fit=fit, num_frames=num_frames, fps=fps, max_seconds=max_seconds, lenient=lenient
    ).checked()
    jobs, many = list_jobs(source, output)
    tokenizer = open_tokenizer(model, device, dtype)
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for job in jobs:
        try:
            rows.append(reconstruct_clip(tokenizer, job, cut, side_by_side))
        except VidgenError as error:
            if not many:
                raise
            failed.append({"path": str(job.record.path), "reason": str(error)})
            note(f"left out: {error}")
    if not rows:
        raise VidgenError(f"{source}: none of {len(jobs)} clips can be used; see `vidgen data inspect`")
    report = {
        "model": model,
        "mean": {"psnr": round(sum(row["psnr"] for row in rows) / len(rows), 3)},
        "clips": rows,
        "failed": failed,
        "peak_mb": peak_memory_mb(),
    }
    print_json(report) if json else print_report(report, tokenizer.config.name)


def print_report(report: dict[str, Any], name: str) -> None:
    clips = [
        (c["path"], c["frames"], f"{c['height']}x{c['width']}", f"{c['psnr']:.2f}", f"{c['seconds']:.1f}", c["note"])
        for c in report["clips"]
    ]
    print_table(f"{report['model']} ({name})", ("clip", ">frames", ">size", ">PSNR dB", ">s", "note"), clips)
    left = f", {len(report['failed'])} left out" if report["failed"] else ""
    print(f"mean PSNR {report['mean']['psnr']:.2f} dB over {len(clips)} clips{left}{describe_memory()}")


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("tokenizer")
