"""`--lora`: what its words mean, and LoRAs put on a pipeline's denoiser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError

if TYPE_CHECKING:
    from vidgen.pipelines.video import VideoPipeline

LoraOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lora", metavar="FILE[:SCALE]", help="LoRA weights on the denoiser: a file, a folder or a hub id; repeatable."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A LoRA as it was asked for."""

    file: str
    scale: float = 1.0

    def __str__(self) -> str:
        return f"{self.file}:{self.scale:g}"


def parse_lora(text: str) -> Wanted:
    """ "x.safetensors", or "x.safetensors:0.5" at half strength. Raises VidgenError for a scale that is no number."""
    file, colon, end = text.rpartition(":")
    if not colon or not file or Path(text).exists():
        return Wanted(file=text)
    try:
        scale = float(end)
    except ValueError:  # the colon is of the name
        return Wanted(file=text)
    if not math.isfinite(scale):
        raise VidgenError(f"--lora {text!r}: the scale {end} is not finite; give a number such as 0.8")
    return Wanted(file=file, scale=scale)


def find_loras(texts: list[str] | None) -> list[Wanted]:
    """Those asked for. Raises VidgenError, before a model is loaded, for a file that is not there."""
    from vidgen.lora.files import find_lora

    wanted = [parse_lora(text) for text in texts or []]
    for lora in wanted:
        find_lora(lora.file)
    return wanted


def put_on(pipe: VideoPipeline, wanted: list[Wanted]) -> None:
    """Loads them onto the denoiser, one after the other."""
    from vidgen.lora.loading import load_lora

    for lora in wanted:
        load_lora(pipe.transformer, lora.file, lora.scale)


def describe_loras(wanted: list[Wanted]) -> dict[str, Any]:
    """What a report says of them; nothing where there are none."""
    return {"loras": [{"file": lora.file, "scale": lora.scale} for lora in wanted]} if wanted else {}
