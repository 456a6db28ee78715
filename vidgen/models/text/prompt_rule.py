"""How prompts become text of a fixed length, where a model or the pipeline that it is of says so."""

from __future__ import annotations

import html
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PromptRule:
    """How prompts become text of `length` tokens each, padding included.

    `masked`: the encoder does not attend to padding. `zeroed`: padding is zeros in what comes out. `attended`: the
    denoiser attends to padding as to words. `cleaned`: HTML entities and runs of blanks are resolved before.
    """

    length: int
    masked: bool = False
    zeroed: bool = False
    attended: bool = True
    cleaned: bool = False


def clean_prompt(prompt: str) -> str:
    """Return the prompt with HTML entities, twice escaped ones too, resolved, and any run of blanks as one."""
    return " ".join(html.unescape(html.unescape(prompt)).split())
