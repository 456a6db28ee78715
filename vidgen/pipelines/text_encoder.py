"""Prompts for published denoisers: T5 and UMT5 through transformers, padded and masked as each pipeline does it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from vidgen.checkpoints.conversion import NetworkDraft
from vidgen.checkpoints.drafts import draft_transformers
from vidgen.errors import VidgenError
from vidgen.models.text.prompt_rule import PromptRule
from vidgen.models.text.transformers_encoder import TransformersTextEncoder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PublishedTextEncoder(TransformersTextEncoder):
    """A text encoder under the rule of the published pipeline that it belongs to, which is never written anew."""

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, rule: PromptRule) -> None:
        super().__init__(model, tokenizer, rule=rule)

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Raise VidgenError: a published pipeline is its folder."""
        raise VidgenError(f"{folder}: a published pipeline is not written anew; copy the folder that it came from")


def draft_text_encoder(folder: Path, dtype: torch.dtype | None) -> NetworkDraft:
    """Return the T5 or UMT5 encoder in a folder, to be filled in `dtype`; errors as `draft_transformers`."""
    from transformers import T5EncoderModel, UMT5EncoderModel

    return draft_transformers(folder, {"t5": T5EncoderModel, "umt5": UMT5EncoderModel}, dtype)
