"""`--lora`: how its words are read, and LoRAs put on a pipeline's denoiser."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError

if TYPE_CHECKING:
    from vidgen.pipelines.video import VideoPipeline

PARTS = ("transformer", "transformer_2")
LoraOption = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="FILE[:SCALE][@PART]",
        help="LoRA weights to add to the denoiser: a file, folder or hub id, and their strength; may be repeated. "
        "PART says which of two, transformer (high noise) or transformer_2.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class LoraChoice:
    """The weights of one --lora, the strength that they are added with, and which of two transformers they are for."""

    file: str
    scale: float = 1.0
    onto: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.scale:g}" + (f"@{self.onto}" if self.onto else "")


def parse_lora(text: str) -> LoraChoice:
    """Return "x.safetensors", or "x.safetensors:0.5" at half strength; "@transformer_2" at the end is a transformer.

    Raises VidgenError for a scale that is not finite.
    """
    whole, at, name = text.rpartition("@")
    if at and name in PARTS and not Path(text).exists():
        return replace(parse_lora(whole), onto=name)
    file, colon, end = text.rpartition(":")
    if not colon or not file or Path(text).exists():
        return LoraChoice(file=text)
    try:
        scale = float(end)
    except ValueError:  # the colon is of the name
        return LoraChoice(file=text)
    if not math.isfinite(scale):
        raise VidgenError(f"--lora {text!r}: the scale {end} is not finite; give a number such as 0.8")
    return LoraChoice(file=file, scale=scale)


def find_loras(texts: list[str] | None) -> list[LoraChoice]:
    """Return the choices of the option. Raises VidgenError, before a model is loaded, for a file that is not there."""
    from vidgen.lora.files import find_lora

    choices = [parse_lora(text) for text in texts or []]
    for choice in choices:
        find_lora(choice.file)
    return choices


def apply_loras(pipe: VideoPipeline, choices: list[LoraChoice]) -> None:
    """Load the weights onto the denoiser, one after the other."""
    from vidgen.lora.loading import load_lora

    for choice in choices:
        load_lora(pipe.transformer, choice.file, choice.scale, onto=choice.onto)


def describe_loras(choices: list[LoraChoice]) -> dict[str, Any]:
    """Return {"loras": rows} for a report; nothing where there are none."""
    rows = [{name: value for name, value in asdict(choice).items() if value is not None} for choice in choices]
    return {"loras": rows} if rows else {}
