"""`vidgen tokenizer`: clips to token files and back, reconstructions, and their evaluation; in bounded memory.

`compare` and `fit` train: see their own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.clips import Cut, check_folder, default_output, find_records, list_jobs, open_frames
from vidgen.scripts.cli.memory import MemoryOption, make_planner, parse_bytes
from vidgen.scripts.cli.options import (
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
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import describe_memory, note, peak_memory_mb, print_json, print_table
from vidgen.scripts.evaluate.keyframes import keyframes
from vidgen.scripts.tokenizer.compare import compare
from vidgen.scripts.tokenizer.compare_objectives import compare_objectives
from vidgen.scripts.tokenizer.decode import Part, Reader, decode_file, decode_folder, parse_moment
from vidgen.scripts.tokenizer.encode import Writer, encode_clip, encode_folder
from vidgen.scripts.tokenizer.evaluate import JsonToFile, evaluate
from vidgen.scripts.tokenizer.nerv import decode_fit, fit, holds_fit
from vidgen.scripts.tokenizer.reconstruct import reconstruct_clip

if TYPE_CHECKING:
    from vidgen.tokenizers.model import VideoTokenizer

app = typer.Typer(no_args_is_help=True, help="Clips to latents and back: encode, decode, reconstruct, evaluate.")
app.command(cls=JsonToFile)(evaluate)
app.command()(keyframes)
app.command(cls=JsonToFile)(compare)
app.command()(fit)
app.command("compare-objectives")(compare_objectives)

OutputOption = Annotated[
    Path | None, typer.Option("-o", "--output", help="File to write; default: the input's name, in this folder.")
]
FramesOption = Annotated[int | None, typer.Option("--num-frames", min=1, help="Take the first N frames.")]
SecondsOption = Annotated[float | None, typer.Option("--max-seconds", help="Take the first S seconds.")]
LenientOption = Annotated[
    bool, typer.Option("--lenient", help="Of a damaged clip, take the frames before the damage, and say so.")
]


def open_tokenizer(model: str, device: str, dtype: Dtype) -> VideoTokenizer:
    from vidgen.pipelines.loading import load_tokenizer

    where = find_device(device)
    return load_tokenizer(model, device=where, dtype=find_dtype(dtype, where))


@app.command()
def encode(
    clip: Annotated[Path, typer.Argument(metavar="CLIP|DIR", help="A clip, or a folder or manifest of clips.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File, or folder for a folder; default: NAME.safetensors here."),
    ] = None,
    model: ModelOption = "default",
    size: SizeOption = None,
    fit: FitOption = "crop",
    num_frames: FramesOption = None,
    fps: FpsOption = None,
    max_seconds: SecondsOption = None,
    lenient: LenientOption = False,
    max_memory: MemoryOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write the tokens of a clip to a file (.safetensors), or of a folder's clips to a folder with an index.

    A folder is continued: clips whose tokens are there already are left alone, those that cannot be read are named.
    """
    check_rate(fps)
    limit = parse_bytes(max_memory)
    cut = Cut(
        size=parse_size(size), fit=fit, num_frames=num_frames, fps=fps, max_seconds=max_seconds, lenient=lenient
    ).checked()
    records, many = find_records(clip)
    target = output or default_output(clip, ".safetensors")
    if many:
        check_folder(clip, output)
    else:
        check_output(target)
        opened = open_frames(records[0].path, cut, records[0])  # before the weights: quick to fail

    from vidgen.tokenizers.files.token_writing import Author

    tokenizer = open_tokenizer(model, device, dtype)
    planner = make_planner(tokenizer, limit, "encode")
    writer = Writer(tokenizer=tokenizer, author=Author.of(tokenizer), model=model, planner=planner)
    report = encode_folder(writer, records, target, cut) if many else encode_clip(writer, opened, target)
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
    elif many:
        left = f", {len(report['failed'])} left out" if report["failed"] else ""
        done = f"{report['encoded']} clips encoded, {report['kept']} there already{left}"
        print(f"{report['index']}: {done}{describe_memory()}")
    else:
        kind = "latents" if "latents" in report else "indices"
        frames = f"{report['num_frames']} frames of {report['height']}x{report['width']}"
        taken = f"{report['bytes'] / 2**20:.2f} MiB, {report['seconds']:.1f} s"
        print(f"{target}: {frames} as {kind} {tuple(report[kind])}, {taken}{describe_memory()}")


@app.command()
def decode(
    tokens: Annotated[
        Path,
        typer.Argument(metavar="FILE|DIR", help="A token file, latents of `sample`, a folder of `encode`, a `fit`."),
    ],
    output: OutputOption = None,
    model: ModelOption = "default",
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="First moment: seconds, 7:00, or a frame as 120f.")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="Stop before this moment.")] = None,
    max_memory: MemoryOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write the clip of a token file, or a part of it, which equals that part of the whole; or all of a folder."""
    limit = parse_bytes(max_memory)
    part = Part(start=parse_moment(start, "--start"), end=parse_moment(end, "--end"))
    many = tokens.is_dir()
    target = output or default_output(tokens, ".mp4")

    from vidgen.tokenizers.files.token_files import open_tokens, tokenizer_hash

    if many:
        check_folder(tokens, output)
    else:
        check_output(target, folder=target.suffix == "")
        if holds_fit(tokens):
            decode_fit(tokens, target, part, find_device(device), json)
            return
        with open_tokens(tokens) as file:  # before the weights: quick to fail
            part.frames(tokens, file.info)
    tokenizer = open_tokenizer(model, device, dtype)
    planner = make_planner(tokenizer, limit, "decode")
    reader = Reader(tokenizer=tokenizer, hash=tokenizer_hash(tokenizer), planner=planner, part=part)
    report = decode_folder(reader, tokens, target) if many else decode_file(reader, tokens, target)
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
    elif many:
        left = f", {len(report['failed'])} left out" if report["failed"] else ""
        print(f"{target}: {len(report['clips'])} clips{left}{describe_memory()}")
    else:
        size = f"{report['num_frames']} frames of {report['height']}x{report['width']}"
        print(f"{target}: {size}, {report['seconds']:.1f} s{describe_memory()}")


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
    max_memory: MemoryOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    json: JsonOption = False,
) -> None:
    """Encode and decode clips, write what comes back, and print its PSNR (dB).

    Of a folder, clips that cannot be read are named and left out. Example: vidgen tokenizer reconstruct clips -o out
    """
    check_rate(fps)
    limit = parse_bytes(max_memory)
    cut = Cut(
        size=parse_size(size), fit=fit, num_frames=num_frames, fps=fps, max_seconds=max_seconds, lenient=lenient
    ).checked()
    jobs, many = list_jobs(source, output)
    tokenizer = open_tokenizer(model, device, dtype)
    planner = make_planner(tokenizer, limit, "reconstruct")
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for job in jobs:
        try:
            rows.append(reconstruct_clip(tokenizer, job, cut, side_by_side, planner))
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
