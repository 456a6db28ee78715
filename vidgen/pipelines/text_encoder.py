"""Prompts for published denoisers: T5 and UMT5 through transformers, padded and masked as each pipeline does it."""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from vidgen.checkpoints.conversion import NetworkDraft
from vidgen.checkpoints.drafts import draft_transformers
from vidgen.errors import VidgenError, explained
from vidgen.models.placement import device_of
from vidgen.models.text.encoders import TextEncoding

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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


class PublishedTextEncoder(nn.Module):
    """A T5 or UMT5 encoder with its tokenizer, and the rule of the pipeline that it belongs to."""

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, rule: PromptRule) -> None:
        super().__init__()
        self.model, self.tokenizer, self.rule = model, tokenizer, rule
        self.width = model.config.hidden_size
        self._announced: set[str] = set()  # prompts that are too long, and of which that was said

    def forward(self, prompts: Sequence[str]) -> TextEncoding:
        """Return text tokens; the mask is True on all that a denoiser is to attend to. Prompts that are too long are
        cut off, with one warning each; of equal ones, such as the negative prompt of many clips, one is encoded."""
        rule = self.rule
        device = device_of(self.model)
        prompts = [clean_prompt(prompt) for prompt in prompts] if rule.cleaned else list(prompts)
        texts = list(dict.fromkeys(prompts))
        self._warn_of_long(texts)
        with explained("the text encoder's tokenizer"):
            batch = self.tokenizer(
                texts, padding="max_length", max_length=rule.length, truncation=True, return_tensors="pt"
            )
        if (most := int(batch["input_ids"].max())) >= self.model.config.vocab_size:
            raise VidgenError(
                f"the text encoder's tokenizer gives token {most}, and its model has fewer; copy both anew"
            )
        mask = batch["attention_mask"].to(device)
        ids = batch["input_ids"].to(device)
        tokens = self.model(ids, attention_mask=mask if rule.masked else None).last_hidden_state
        if rule.zeroed:
            tokens = tokens.masked_fill(mask[..., None] == 0, 0.0)
        rows = [texts.index(prompt) for prompt in prompts]
        visible = torch.ones_like(mask) if rule.attended else mask
        return TextEncoding(tokens=tokens[rows], mask=visible[rows].bool())

    def _warn_of_long(self, texts: Sequence[str]) -> None:
        for text in texts:
            if text not in self._announced and (cut := self.describe_cut(text)):
                warnings.warn(cut, stacklevel=4)

    def describe_cut(self, prompt: str) -> str:
        """Return what a prompt that is too long will lose, "" for any other. Encoding it then does not warn of it."""
        text = clean_prompt(prompt) if self.rule.cleaned else prompt
        with explained("the text encoder's tokenizer"):
            ids = self.tokenizer(text, verbose=False)["input_ids"]
        if len(ids) <= self.rule.length:
            return ""
        self._announced.add(text)
        lost = self.tokenizer.decode(ids[self.rule.length - 1 : -1])
        sizes = f"a prompt of {len(ids)} tokens is cut to the {self.rule.length} that the model takes"
        return f"{sizes}; left out: {lost[:80]}"

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Raise VidgenError: a published pipeline is its folder."""
        raise VidgenError(f"{folder}: a published pipeline is not written anew; copy the folder that it came from")


def clean_prompt(prompt: str) -> str:
    """Return the prompt with HTML entities, twice escaped ones too, resolved, and any run of blanks as one."""
    return " ".join(html.unescape(html.unescape(prompt)).split())


def draft_text_encoder(folder: Path, dtype: torch.dtype | None) -> NetworkDraft:
    """Return the T5 or UMT5 encoder in a folder, to be filled in `dtype`; errors as `draft_transformers`."""
    from transformers import T5EncoderModel, UMT5EncoderModel

    return draft_transformers(folder, {"t5": T5EncoderModel, "umt5": UMT5EncoderModel}, dtype)
