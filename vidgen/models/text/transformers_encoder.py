"""transformers' text models behind the interface of text encoders, with the prompts of published pipelines."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vidgen.checkpoints.finite import check_output
from vidgen.errors import VidgenError, explained
from vidgen.models.placement import device_of
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prompt_rule import PromptRule
from vidgen.models.text.text_models import draft_text_model, longest_prompt, prompt_rule
from vidgen.models.text.tokenizers import read_text_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from transformers.modeling_outputs import BaseModelOutput


class TransformersTextEncoder(nn.Module):
    """A text model of transformers, of a type of `TEXT_MODELS`, with its tokenizer.

    Without a rule, prompts are padded to the longest, padding is not attended to, and a prompt of over `max_length`
    tokens is an error. With one, they come out as the rule says, and prompts that are too long are cut off, with one
    warning each. Of equal prompts, such as the negative prompt of many clips, one is encoded.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
        *,
        rule: PromptRule | None = None,
    ) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.rule = rule
        if rule is None:  # a rule has a length of its own; what is set here is part of the hash of encoded prompts
            self.max_length = max_length
        self.width = model.config.hidden_size
        self._announced: set[str] = set()  # prompts that are too long, and of which that was said

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return self.model.config.num_hidden_layers

    def truncate(self, depth: int) -> TransformersTextEncoder:
        """Return an encoder of the first `depth` blocks, with the same weights: what 2DMSE (Li et al. 2024, "2D
        Matryoshka Sentence Embeddings") trains every block for. A last norm, where there is one, stays.

        Raises VidgenError for a depth that it does not have, and for a model whose blocks share their weights.
        """
        if not 1 <= depth <= self.depth:
            raise VidgenError(
                f"depth {depth} of a text encoder of {self.depth} blocks; give one from 1 to {self.depth}"
            )
        shared = {id(x): x for x in (*self.model.parameters(), *self.model.buffers())}
        model = copy.deepcopy(self.model, shared)
        blocks = find_blocks(model)
        del blocks[depth:]
        for name, value in vars(model.config).items():
            if isinstance(value, list) and len(value) == self.depth:  # such as the kind of attention of every block
                setattr(model.config, name, value[:depth])
        model.config.num_hidden_layers = depth
        length = None if self.rule is not None else self.max_length
        return TransformersTextEncoder(model, self.tokenizer, length, rule=self.rule)

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write weights (in `dtype` if given) and tokenizer to `folder`, in transformers' own layout."""
        copy.deepcopy(self.model).to(dtype=dtype).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike,
        *,
        tokenizer: str | os.PathLike | None = None,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
    ) -> TransformersTextEncoder:
        """Return the encoder in `folder`, with its tokenizer from there or from `tokenizer`. Nothing is fetched.

        Raises VidgenError where there is none, or one of another kind.
        """
        dtype = dtype or torch.float32
        draft, row = draft_text_model(Path(folder), dtype)
        draft.checkpoint.check_memory(dtype, device)
        words = read_text_tokenizer(tokenizer or folder)
        if words.pad_token is None:  # as of GPT-2; padding is never attended to, whatever it is
            words.pad_token = words.eos_token or words.unk_token
        if words.pad_token is None:
            raise VidgenError(f"{tokenizer or folder}: the tokenizer has no token to pad with; name one as pad_token")
        if row.causal:
            words.padding_side = "right"  # so that places are those of a prompt by itself
        length = longest_prompt(row, draft.network.config)
        return cls(draft.fill(dtype=dtype, device=device), words, length, rule=prompt_rule(row, length))

    def to_ids(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (b, l), padded to the longest prompt or to the rule's length, and the mask of what is no padding.

        Raises VidgenError for a prompt of over `max_length` tokens, and for tokens that the model does not have.
        """
        form = {"padding": True}
        if self.rule is not None:
            padding = "max_length" if self.rule.filled else "longest"
            form = {"padding": padding, "max_length": self.rule.length, "truncation": True}
        with explained("the text encoder's tokenizer"):
            batch = self.tokenizer(list(prompts), return_tensors="pt", return_attention_mask=True, **form)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if self.rule is None and ids.shape[1] > self.max_length:
            raise VidgenError(f"prompt of {ids.shape[1]} tokens is too long, {self.max_length} at most")
        if ids.numel() and (most := int(ids.max())) >= self.model.config.vocab_size:
            raise VidgenError(
                f"the text encoder's tokenizer gives token {most}, and its model has fewer; copy both anew"
            )
        return ids.long(), mask

    def forward(self, prompts: Sequence[str]) -> TextEncoding:
        """Return the text tokens of prompts; the mask is True on all that is to be attended to. Errors as `to_ids`."""
        out, mask, rows = self.run(prompts, layers=False)
        return self.finish(out.last_hidden_state, mask, rows)

    def encode_layers(self, prompts: Sequence[str]) -> list[TextEncoding]:
        """Return the text tokens after the embeddings and after every block; the last are those of `forward`, after the
        last norm where there is one. Errors as `to_ids`."""
        out, mask, rows = self.run(prompts, layers=True)
        states = (*out.hidden_states[: self.depth], out.last_hidden_state)
        return [self.finish(tokens, mask, rows) for tokens in states]

    def run(self, prompts: Sequence[str], *, layers: bool) -> tuple[BaseModelOutput, Tensor, list[int]]:
        """Return the model's output on the prompts that differ, their mask, and which of them each prompt is."""
        rule = self.rule
        if rule is not None:
            prompts = [rule.apply(prompt) for prompt in prompts]
        texts = list(dict.fromkeys(prompts))
        self._warn_of_long(texts)
        ids, mask = (x.to(device_of(self.model)) for x in self.to_ids(texts))
        visible = mask if rule is None or rule.masked else None

        def compute() -> BaseModelOutput:
            return self.model(input_ids=ids, attention_mask=visible, output_hidden_states=layers)

        out = compute()
        what = f"the text encoder {type(self.model).__name__}"
        check_output(out.last_hidden_state, self.model, compute, what=lambda: what, given=ids)
        numbers = {text: number for number, text in enumerate(texts)}
        return out, mask, [numbers[prompt] for prompt in prompts]

    def finish(self, tokens: Tensor, mask: Tensor, rows: list[int]) -> TextEncoding:
        """Return tokens (k, l, d) of different prompts as those of all (b, l, d), masked as the rule says."""
        if self.rule is not None and self.rule.zeroed:
            tokens = tokens.masked_fill(mask[..., None] == 0, 0.0)
        visible = torch.ones_like(mask) if self.rule is not None and self.rule.attended else mask
        return TextEncoding(tokens=tokens[rows], mask=visible[rows].bool())

    def _warn_of_long(self, texts: Sequence[str]) -> None:
        for text in texts:
            if text not in self._announced and (cut := self.describe_cut(text)):
                warnings.warn(cut, stacklevel=5)

    def describe_cut(self, prompt: str) -> str:
        """Return what a prompt that is too long will lose, "" for any other. Encoding it then does not warn of it."""
        if self.rule is None:
            return ""
        text = self.rule.apply(prompt)
        with explained("the text encoder's tokenizer"):
            ids = self.tokenizer(text, verbose=False)["input_ids"]
        if len(ids) <= self.rule.length:
            return ""
        self._announced.add(text)
        lost = self.tokenizer.decode(ids[self.rule.length - 1 : -1])
        sizes = f"a prompt of {len(ids)} tokens is cut to the {self.rule.length} that the model takes"
        return f"{sizes}; left out: {lost[:80]}"


def find_blocks(model: nn.Module) -> nn.ModuleList:
    """Return the blocks of a text model of transformers: its outermost list of as many as its config says.

    Raises VidgenError where there is none, as of ALBERT, whose blocks are one.
    """
    depth = model.config.num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise VidgenError(f"{type(model).__name__} has no list of {depth} blocks of their own, so none can be left out")
