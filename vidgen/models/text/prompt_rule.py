"""How prompts become text of a length that a model, or the pipeline that it is of, says."""

from __future__ import annotations

import dataclasses
import html
from dataclasses import dataclass, field
from typing import Any

LATER: dict[str, Any] = {"later": True}  # metadata of fields that are in no hash where they have their default


@dataclass(frozen=True, kw_only=True)
class PromptRule:
    """How prompts become text of `length` tokens each, padding included.

    `masked`: the encoder does not attend to padding. `zeroed`: padding is zeros in what comes out. `attended`: the
    denoiser attends to padding as to words. `cleaned`: HTML entities and runs of blanks are resolved before.
    `filled`: prompts are padded up to `length`; else to the longest of them. `lowercased`: small letters alone.
    """

    length: int
    masked: bool = False
    zeroed: bool = False
    attended: bool = True
    cleaned: bool = False
    filled: bool = field(default=True, metadata=LATER)
    lowercased: bool = field(default=False, metadata=LATER)

    def apply(self, prompt: str) -> str:
        """Return a prompt as the tokenizer is to read it."""
        text = clean_prompt(prompt) if self.cleaned else prompt
        return text.lower() if self.lowercased else text


def describe_fields(settings: Any) -> dict[str, Any]:
    """Return the fields of a dataclass for a hash: a `LATER` one only where it is not its default."""
    values = dataclasses.asdict(settings)
    for f in dataclasses.fields(settings):
        if f.metadata.get("later") and values[f.name] == f.default:
            del values[f.name]
    return values


def clean_prompt(prompt: str) -> str:
    """Return the prompt with HTML entities, twice escaped ones too, resolved, and any run of blanks as one."""
    return " ".join(html.unescape(html.unescape(prompt)).split())
