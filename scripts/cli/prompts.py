"""Prompts on the command line: one, a file of them, or a schedule of the prompts of one long clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen.errors import VidgenError
from vidgen.scripts.cli.moments import parse_moment
from vidgen.scripts.cli.printing import note

if TYPE_CHECKING:
    from vidgen.interfaces import TextEncoder

EXAMPLE = 'vidgen sample "a red circle moves right"'


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a clip is to show, and where that was said: "prompts.txt: line 3: ", or "" for the command line."""

    text: str
    place: str = ""


def read_prompts(prompt: str | None, file: Path | None) -> list[Prompt]:
    """Return the prompt, or the lines of the file. VidgenError for both, neither, or a file without text."""
    if (prompt is None) == (file is None):
        raise VidgenError(f"give a prompt, or --prompts-file FILE: {EXAMPLE}")
    if file is None:
        if not prompt.strip():
            raise VidgenError(f"the prompt is empty; say what to show: {EXAMPLE}")
        return [Prompt(text=check_text(prompt, "the prompt"))]
    lines = enumerate(read_lines(file, "one prompt a line is wanted"), start=1)
    prompts = [Prompt(text=line, place=f"{file}: line {number}: ") for number, line in lines if line]
    if not prompts:
        raise VidgenError(f"{file}: no prompts in it; write one a line")
    return prompts


def check_text(text: str, what: str) -> str:
    """Return `text`. Raises VidgenError for one with bytes that are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise VidgenError(f"{what} is not text in UTF-8: {ascii(text)[:60]}; write it anew") from None
    return text


def check_prompts(encoder: TextEncoder, prompts: Sequence[Prompt], negative_prompt: str) -> None:
    """Raise VidgenError, with the line's number, for a prompt that the text encoder does not take.

    Those of published pipelines cut a long prompt off: a line on stderr says so of each.
    """
    from vidgen.models.text.encoders import ByteTextEncoder
    from vidgen.models.text.transformers_encoder import TransformersTextEncoder

    for prompt in (*prompts, Prompt(text=negative_prompt, place="--negative-prompt: ")):
        if isinstance(encoder, TransformersTextEncoder) and (cut := encoder.describe_cut(prompt.text)):
            note(f"warning: {prompt.place}{cut}")
        if not isinstance(encoder, ByteTextEncoder | TransformersTextEncoder):
            continue
        try:
            encoder.to_ids([prompt.text])
        except VidgenError as error:
            raise VidgenError(f"{prompt.place}{error}") from None


def read_lines(file: Path, expected: str) -> list[str]:
    """Return the lines of a text file, without blanks at their ends. VidgenError for a file that is not UTF-8."""
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise VidgenError(f"{file}: not a text file in UTF-8; {expected}") from None


def read_prompt_schedule(file: Path, fps: float) -> list[tuple[int, str]]:
    """Return the (first frame, prompt) pairs of a file with lines of TIME PROMPT. VidgenError for any other line."""
    schedule = []
    for number, line in enumerate(read_lines(file, "a time and a prompt a line are wanted"), start=1):
        if not line or line.startswith("#"):
            continue
        time, _, prompt = line.partition(" ")
        if not prompt.strip():
            raise VidgenError(f"{file}: line {number} is {line!r}; a time and a prompt are wanted: 0:04 a star grows")
        moment = parse_moment(time, f"{file}: line {number}: time")
        schedule.append((moment.at(fps), prompt.strip()))
    if not schedule:
        raise VidgenError(f"{file}: no prompts in it; write a time and a prompt a line")
    return schedule


def describe_prompt_schedule(schedule: list[tuple[int, str]]) -> str:
    """Return a schedule in one line, as it stands in a file of latents."""
    return "; ".join(f"{start}f {prompt}" for start, prompt in schedule)
