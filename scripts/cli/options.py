"""Options that several verbs share, and how their words are read."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from vidgen.bounds import COUNT, FPS, FRAMES, SECONDS, SEED, SIDE, Range, check_value
from vidgen.errors import VidgenError
from vidgen.scripts.cli.printing import note_at_end

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Fit = Literal["crop", "pad", "stretch"]

NUMBERS = Range(-1e9, 1e9)  # of lists, whose own limits are checked where they are used

ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME|DIR", help="The model: a shipped name, a folder or a hub id.")
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior",
        metavar="DIR",
        help="A folder that task `prior` has made, whose prior codes the tokens; its tokenizer is the default --model.",
    ),
]
ModelArgument = Annotated[str, typer.Argument(help="A pipeline or tokenizer: a shipped name, a folder or a hub id.")]
BankArgument = Annotated[Path, typer.Argument(metavar="BANK", help="The folder that `vidgen extract` wrote.")]
ClipsArgument = Annotated[Path, typer.Argument(metavar="CLIP|DIR", help="A clip, or a folder or manifest of clips.")]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Where to compute: cpu, cuda, cuda:1, mps; auto takes the GPU if there is one.")
]
DtypeOption = Annotated[
    Dtype,
    typer.Option(
        "--dtype", help="Precision of the networks; auto is bfloat16 where the hardware computes in it, else float32."
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", **SEED.limits, help="Seed of all random numbers: the same gives the same result.")
]
AllowDamagedOption = Annotated[
    bool, typer.Option("--allow-damaged", help="Of a damaged clip, take what there is, and say what is wrong.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of text.")]
ReportOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write the JSON to this file instead; --json FILE.json does the same."),
]
PlotOption = Annotated[Path | None, typer.Option("--plot", help="Also draw the result into this .png, .svg or .pdf.")]
SizeOption = Annotated[
    str | None,
    typer.Option(
        "--size", metavar="N|HxW", help="Resize frames to height x width pixels; one number is a square. Default: no."
    ),
]
ModelSizeOption = Annotated[
    str | None,
    typer.Option(
        "--size",
        metavar="N|HxW",
        help="Resize frames to height x width pixels; one number is a square. Default: the model's size.",
    ),
]
FitOption = Annotated[
    Fit, typer.Option("--fit", help="How frames get to --size: cut off the edges, add black bars, or distort.")
]
FpsOption = Annotated[
    float | None,
    typer.Option("--fps", **FPS.limits, help="Take frames at this rate, a second. Default: every frame of the clip."),
]
LengthOption = Annotated[
    int | None,
    typer.Option("--num-frames", **FRAMES.limits, help="Take only the first N frames. Default: all of them."),
]
SecondsOption = Annotated[
    float | None,
    typer.Option("--max-seconds", **SECONDS.limits, help="Take only the first so many seconds. Default: all of them."),
]
CountOption = Annotated[int, typer.Option("--n", min=1, max=10**6, help="How many clips to measure on.")]
BatchOption = Annotated[
    int,
    typer.Option(
        "--batch-size", min=1, max=10**6, help="Clips computed at once: more are faster and take more memory."
    ),
]
MaxObjectsOption = Annotated[int, typer.Option(min=1, max=2, help="The most moving shapes in a clip.")]
# Of the verbs that read features.
LayersOption = Annotated[
    str,
    typer.Option(
        "--layers",
        help="Layers to read, as tokenizer.latents,dit.blocks.3; all: the latents and every block of the denoiser.",
    ),
]
BankLayersOption = Annotated[
    str | None,
    typer.Option("--layers", help="Use only these features, as tokenizer.latents,dit.blocks.3. Default: all."),
]
NoiseLevelsOption = Annotated[
    str,
    typer.Option(
        "--noise-levels", help="Noise levels at which layers of the denoiser are read: 0 is the clip, 1 pure noise."
    ),
]
ModelLengthOption = Annotated[
    int | None,
    typer.Option("--num-frames", **FRAMES.limits, help="Frames of each clip. Default: as many as the model makes."),
]
ModelFpsOption = Annotated[
    float | None,
    typer.Option("--fps", **FPS.limits, help="Take frames at this rate, a second. Default: the model's rate."),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, max=10**6, help="Use only the first N clips. Default: all.")
]
DrawNeighborsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PNG", help="Also draw queries with their nearest clips: hits in green frames, others in red."
    ),
]


class JsonToFile(TyperCommand):
    """A command whose `--json report.json` is `--json -o report.json`; any other word after --json is not its value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments with `-o` before the name of a JSON file that follows `--json`."""
        words = []
        for previous, word in zip(["", *args], args, strict=False):
            words += ["-o"] if previous == "--json" and word.endswith(".json") and not word.startswith("-") else []
            words.append(word)
        return super().parse_args(ctx, words)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Return "64" or "64x96" as (height, width). Raises VidgenError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})(?:[xX](\d{1,9}))?", text.strip())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(side in SIDE for side in size):
        raise VidgenError(
            f"--size {text[:40]!r} is not a size; give one number, or HEIGHTxWIDTH such as 64x96, each {SIDE}"
        )
    return size


def parse_names(text: str) -> list[str]:
    """Return "a, b" as ["a", "b"]."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_choices(text: str, option: str, names: Collection[str]) -> list[str]:
    """Return "a, b" as ["a", "b"]. Raises VidgenError for one that is none of `names`, and for nothing at all."""
    chosen = parse_names(text)
    unknown = next((name for name in chosen if name not in names), None)
    if unknown is not None or not chosen:
        what = f"{option} {unknown!r} is unknown" if chosen else f"{option} names nothing"
        raise VidgenError(f"{what}; choose some of {', '.join(names)}")
    return chosen


def parse_numbers(text: str, option: str) -> list[float]:
    """Return "0, 0.1" as [0.0, 0.1]. Raises VidgenError for what is no list of numbers."""
    try:
        numbers = [float(part) for part in parse_names(text)]
    except ValueError:
        raise VidgenError(f"{option} {text!r} is not a list of numbers; give some such as 0.0,0.1") from None
    for number in numbers:
        check_value(number, Annotated[float, NUMBERS], option)
    return numbers


def parse_counts(text: str, option: str) -> list[int]:
    """Return "1, 5" as [1, 5]. Raises VidgenError for what is no list of whole numbers above 0."""
    numbers = parse_numbers(text, option)
    if not numbers or any(number not in COUNT or number != int(number) for number in numbers):
        raise VidgenError(f"{option} {text!r} is no list of whole numbers above 0; give some such as 1,5,10")
    return [int(number) for number in numbers]


def find_device(name: str) -> str:
    """Return the device of that name, "auto" being the GPU if there is one. VidgenError if it cannot be used here."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")[:120]
        raise VidgenError(
            f"device {name!r} cannot be used here ({reason}); try --device cpu, or `vidgen doctor`"
        ) from None
    return name


def find_dtype(name: Dtype, device: str) -> torch.dtype:
    """Return the torch dtype of that name, "auto" being the fastest one on `device`, which a remark names."""
    import torch

    from vidgen.models.placement import fast_precision

    if name == "auto":
        name = fast_precision(device)
        note_at_end(f"computed in {name} on {device}")
    return getattr(torch, name)
