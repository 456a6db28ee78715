"""Options that several verbs share, and what their words mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vidgen.errors import VidgenError

if TYPE_CHECKING:
    import torch

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Fit = Literal["crop", "pad", "stretch"]

ModelOption = Annotated[str, typer.Option("--model", metavar="NAME|DIR", help="A shipped name, a folder or a hub id.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", help="Precision; auto: bfloat16 where the hardware computes in it, else float32.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="The same seed gives the same result.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
SizeOption = Annotated[
    str | None, typer.Option("--size", metavar="N|HxW", help="Resize to height x width; one number is a square.")
]
FitOption = Annotated[Fit, typer.Option("--fit", help="How frames get to --size.")]
FpsOption = Annotated[float | None, typer.Option("--fps", help="Sample clips at this rate; default: their own frames.")]
# Of the verbs that read features.
TapsOption = Annotated[str, typer.Option("--taps", help="As tokenizer.latents,dit.blocks.3; all: latents and blocks.")]
NoiseLevelsOption = Annotated[str, typer.Option("--noise-levels", help="In [0, 1], for taps of the denoiser.")]
ClipLengthOption = Annotated[
    int | None, typer.Option("--num-frames", min=1, help="Frames of each clip; default: the model's.")
]
RateOption = Annotated[float | None, typer.Option("--fps", help="Rate that frames are taken at; default: the model's.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Take the first N clips.")]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """ "64" or "64x96" as (height, width). Raises VidgenError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", text.strip())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(size) < 1:
        raise VidgenError(f"--size {text!r} is not a size; give one number, or HEIGHTxWIDTH such as 64x96")
    return size


def parse_names(text: str) -> list[str]:
    """ "a, b" as ["a", "b"]."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_numbers(text: str, option: str) -> list[float]:
    """ "0, 0.1" as [0.0, 0.1]. Raises VidgenError for what is no list of numbers."""
    try:
        return [float(part) for part in parse_names(text)]
    except ValueError:
        raise VidgenError(f"{option} {text!r} is not a list of numbers; give some such as 0.0,0.1") from None


def check_rate(fps: float | None) -> None:
    """Raises VidgenError unless `fps` is None or a rate that a file can have."""
    if fps is not None and not 0 < fps <= 1000:
        raise VidgenError(f"--fps {fps:g} is not a frame rate; give a number above 0, at most 1000")


def find_device(name: str) -> str:
    """The device of that name, "auto" being the GPU if there is one. VidgenError if it cannot be used here."""
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


def has_fast_bfloat16(device: str) -> bool:
    """Whether the device multiplies in bfloat16 rather than emulating it."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tests = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device == "cpu" and any(getattr(torch.cpu, test, lambda: False)() for test in tests)


def find_dtype(name: Dtype, device: str) -> torch.dtype:
    """The torch dtype of that name."""
    import torch

    if name == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
    return getattr(torch, name)
