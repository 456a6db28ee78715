"""`vidgen tokenizer`: clips to token files and back, reconstructions, and their evaluation; in bounded memory.

The verbs that measure or train have files of their own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError, WriteError
from vidgen.scripts.cli.clips import CutOptions, check_folder, default_output, find_records, list_jobs, open_frames
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.memory import MemoryOption, parse_bytes
from vidgen.scripts.cli.moments import parse_moment
from vidgen.scripts.cli.option_sets import FastHardwareOptions, with_option_sets
from vidgen.scripts.cli.options import (
    AllowDamagedOption,
    ClipsArgument,
    JsonOption,
    JsonToFile,
    ModelOption,
    PriorOption,
)
from vidgen.scripts.cli.outputs import check_output
from vidgen.scripts.cli.printing import describe_memory, note, peak_memory_mb, pluralize, print_json, print_table
from vidgen.scripts.tokenizer.clip_codecs import Codec, choose_model, named_prior, open_codec
from vidgen.scripts.tokenizer.compare import compare
from vidgen.scripts.tokenizer.compare_objectives import compare_objectives
from vidgen.scripts.tokenizer.decode import Part, Reader, check_part, decode_file, decode_folder
from vidgen.scripts.tokenizer.encode import Writer, encode_clip, encode_folder
from vidgen.scripts.tokenizer.evaluate import evaluate
from vidgen.scripts.tokenizer.keyframes import keyframes
from vidgen.scripts.tokenizer.nerv import decode_nerv, holds_nerv, nerv
from vidgen.scripts.tokenizer.reconstruct import reconstruct_clip

if TYPE_CHECKING:
    from vidgen.scripts.cli.clips import ClipJob, Cut

SHAPES = ("latents", "indices", "key_latents", "key_indices", "motion_latents", "motion_indices")  # in a report
app = typer.Typer(no_args_is_help=True, help="Clips to latents and back: encode, decode, reconstruct, evaluate.")


@app.command()
@with_option_sets
def encode(
    *,
    clip: ClipsArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write, or folder for many clips. Default: NAME.safetensors here."),
    ] = None,
    model: ModelOption = "default",
    prior: PriorOption = None,
    cutting: CutOptions,
    allow_damaged: AllowDamagedOption = False,
    max_memory: MemoryOption = None,
    hardware: FastHardwareOptions,
    json: JsonOption = False,
) -> None:
    """Write the tokens of a clip to a file (.safetensors), or of a folder's clips to a folder with an index.

    A folder is continued: clips whose tokens are there already are left alone, those that cannot be read are named.
    Example: vidgen tokenizer encode clip.mp4 --max-memory 4GB
    """
    limit = parse_bytes(max_memory)
    cut = cutting.read(allow_damaged=allow_damaged)
    records, is_folder = find_records(clip)
    target = output or default_output(clip, ".safetensors")
    if is_folder:
        check_folder(clip, output)
    else:
        check_output(target)
        opened = open_frames(records[0].path, cut, records[0])  # before the weights: quick to fail

    model = choose_model(model, prior)
    codec = open_codec(model, hardware, limit, "encode", prior)
    if cut.size:  # which is too large for any clip, or for none
        codec.check_size(*cut.size)
    writer = Writer(codec=codec, model=model)
    report = encode_folder(writer, records, target, cut) if is_folder else encode_clip(writer, opened, target)
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
    elif is_folder:
        clips = f"{pluralize(report['encoded'], 'clip')} encoded, {report['kept']} there already"
        print(f"{report['index']}: {clips}{describe_failed(report)}{describe_memory()}")
    else:
        kinds = " and ".join(f"{kind} {tuple(report[kind])}" for kind in SHAPES if kind in report).replace("_", " ")
        frames = f"{pluralize(report['num_frames'], 'frame')} of {report['height']}x{report['width']}"
        cost = f"{describe_size(report, prior)}, {report['seconds']:.1f} s"
        print(f"{target}: {frames} as {kinds}, {cost}{describe_memory()}")


@app.command()
@with_option_sets
def decode(
    *,
    tokens: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|DIR",
            help="A file of `encode` or `nerv`, latents of `vidgen sample`, or a folder of `encode`.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write, or folder. Default: NAME.mp4 here.")
    ] = None,
    model: ModelOption = "default",
    prior: PriorOption = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="First moment to decode: seconds, 7:00, or a frame as 120f. Default: 0."),
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop before this moment. Default: the end of the clip.")
    ] = None,
    max_memory: MemoryOption = None,
    hardware: FastHardwareOptions,
    json: JsonOption = False,
) -> None:
    """Write the clip of a token file, or a part of it, which equals that part of the whole; or all of a folder.

    Example: vidgen tokenizer decode clip.safetensors --start 7:00 --end 7:10
    """
    limit = parse_bytes(max_memory)
    part = Part(start=parse_moment(start, "--start"), end=parse_moment(end, "--end"))
    is_folder = tokens.is_dir()
    target = output or default_output(tokens, ".mp4")

    if is_folder:
        check_folder(tokens, output)
    else:
        check_output(target, folder=target.suffix == "")
        if holds_nerv(tokens):
            decode_nerv(tokens, target, part, hardware.settings()["device"], json)
            return
        check_part(tokens, part)
    codec = open_codec(model, hardware, limit, "decode", prior or named_prior(tokens))
    reader = Reader(codec=codec, part=part)
    report = decode_folder(reader, tokens, target) if is_folder else decode_file(reader, tokens, target)
    if json:
        print_json(report | {"peak_mb": peak_memory_mb()})
    elif is_folder:
        print(f"{target}: {pluralize(len(report['clips']), 'clip')}{describe_failed(report)}{describe_memory()}")
    else:
        size = f"{pluralize(report['num_frames'], 'frame')} of {report['height']}x{report['width']}"
        print(f"{target}: {size}, {report['seconds']:.1f} s{describe_memory()}")


@app.command()
@with_option_sets
def reconstruct(
    *,
    source: ClipsArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File to write, or folder for many clips. Default: only print the PSNR."),
    ] = None,
    model: ModelOption = "default",
    cutting: CutOptions,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Write the original on the left and the reconstruction on the right.")
    ] = False,
    allow_damaged: AllowDamagedOption = False,
    max_memory: MemoryOption = None,
    hardware: FastHardwareOptions,
    json: JsonOption = False,
) -> None:
    """Encode and decode clips, write what comes back, and print its PSNR (dB).

    Of a folder, clips that cannot be read are named and left out. Example: vidgen tokenizer reconstruct clips -o out
    """
    limit = parse_bytes(max_memory)
    cut = cutting.read(allow_damaged=allow_damaged)
    jobs, many = list_jobs(source, output)
    codec = open_codec(model, hardware, limit, "reconstruct")
    if cut.size:
        codec.check_size(*cut.size)
    rows, failed = reconstruct_clips(codec, jobs, cut, side_by_side, skips=many)
    if not rows:
        raise VidgenError(f"{source}: none of {len(jobs)} clips can be used; see `vidgen data inspect`")
    report = {
        "model": model,
        "mean": {"psnr": round(sum(row["psnr"] for row in rows) / len(rows), 3)},
        "clips": rows,
        "failed": failed,
        "peak_mb": peak_memory_mb(),
    }
    print_json(report) if json else print_report(report, codec.tokenizer.config.name)


def reconstruct_clips(
    codec: Codec, jobs: list[ClipJob], cut: Cut, side_by_side: bool, *, skips: bool
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return the rows of the clips, and {"path", "reason"} of those that were left out.

    Args:
        codec: what the clips go through.
        jobs: the clips, and the files that the results go to.
        cut: which part of a clip is read.
        side_by_side: whether originals are written beside their reconstructions.
        skips: whether clips that cannot be read are left out, rather than an error.
    """
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    for job in jobs:
        try:
            rows.append(reconstruct_clip(codec, job, cut, side_by_side))
        except WriteError:
            raise
        except VidgenError as error:
            if not skips:
                raise
            failed.append({"path": str(job.record.path), "reason": str(error)})
            note(f"left out: {error}")
    return rows, failed


def describe_size(report: dict[str, Any], prior: str | None) -> str:
    """Return the size of a token file, and of one that a prior has coded that of its two parts."""
    if prior is None:
        return f"{report['bytes'] / 2**20:.2f} MiB"
    stream, tokens = report["bits"] // 8, math.prod(report["indices"])
    rate = f"{report['bits'] / tokens:.3f} bits an index"
    return f"{stream} bytes of tokens ({rate}) and {report['bytes'] - stream} of header"


def describe_failed(report: dict[str, Any]) -> str:
    """Return how many clips were left out as the end of a line; "" where there are none."""
    return f", {len(report['failed'])} left out" if report["failed"] else ""


def print_report(report: dict[str, Any], name: str) -> None:
    """Print a line for every clip, and the mean PSNR."""
    clips = [
        (c["path"], c["frames"], f"{c['height']}x{c['width']}", f"{c['psnr']:.2f}", f"{c['seconds']:.1f}", c["note"])
        for c in report["clips"]
    ]
    print_table(f"{report['model']} ({name})", ("clip", ">frames", ">size", ">PSNR dB", ">s", "note"), clips)
    mean = f"mean PSNR {report['mean']['psnr']:.2f} dB over {pluralize(len(clips), 'clip')}"
    print(f"{mean}{describe_failed(report)}{describe_memory()}")


app.command(cls=JsonToFile)(evaluate)
app.command()(nerv)
app.command()(keyframes)
app.command(cls=JsonToFile)(compare)
app.command("compare-objectives")(compare_objectives)

if __name__ == "__main__":
    run_verb("tokenizer", app)
