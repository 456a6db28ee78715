"""Static vectors of tokens, as model2vec distils them: that of a text is the mean of its tokens', without a network."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vidgen.checkpoints.checkpoint import Checkpoint, find_checkpoint
from vidgen.checkpoints.drafts import TRANSFORMERS_NAME
from vidgen.checkpoints.other_libraries import check_folder
from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError, explained
from vidgen.files.atomic import atomic_write
from vidgen.models.text.encoders import TextEncoding

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_NAME = "tokenizer.json"
TABLES = ("embeddings", "embedding.weight")  # model2vec's name, and that of sentence-transformers' StaticEmbedding
MOST_TOKENS = 512  # of a text, as model2vec reads it; what comes after is left out


class StaticTextEncoder(nn.Module):
    """A vector for every token of a tokenizer; without marks of beginning and end, and without unknown tokens.

    `weights`, of each token, scale its vector; `unknown` is the number of the token that is left out. `mapping` says
    which row of the table a token has, where several share one. A text without a known token is one token of zeros.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        embeddings: Float[Tensor, "v d"],
        *,
        weights: Float[Tensor, " k"] | None = None,
        mapping: Int[Tensor, " k"] | None = None,
        unknown: int | None = None,
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.embeddings = nn.Parameter(embeddings, requires_grad=False)
        self.register_buffer("weights", weights)
        self.register_buffer("mapping", mapping)
        self.unknown = unknown
        self.width = embeddings.shape[1]

    def to_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """Return the known tokens of each prompt. Raises VidgenError for one that the table does not have."""
        with explained("the text encoder's tokenizer"):
            batch = self.tokenizer.encode_batch(list(prompts), add_special_tokens=False)
        rows = [[i for i in encoding.ids if i != self.unknown][:MOST_TOKENS] for encoding in batch]
        known = len(self.embeddings if self.mapping is None else self.mapping)
        if (most := max((max(row, default=0) for row in rows), default=0)) >= known:
            raise VidgenError(f"the text encoder's tokenizer gives token {most}, and there are {known}; copy both anew")
        return rows

    def forward(self, prompts: Sequence[str]) -> TextEncoding:
        """Return the vectors of the tokens of prompts. Raises VidgenError as `to_ids`."""
        device = self.embeddings.device
        tokens = [self.look_up(torch.tensor(row, dtype=torch.long, device=device)) for row in self.to_ids(prompts)]
        lengths = torch.tensor([len(x) for x in tokens], device=device)
        mask = torch.arange(int(lengths.max()), device=device) < lengths[:, None]
        return TextEncoding(tokens=pad_sequence(tokens, batch_first=True), mask=mask)

    def look_up(self, ids: Int[Tensor, " l"]) -> Float[Tensor, "l d"]:
        """Return the vectors of tokens; of none, one of zeros."""
        if not len(ids):
            return self.embeddings.new_zeros(1, self.width)
        tokens = self.embeddings[ids if self.mapping is None else self.mapping[ids]]
        return tokens if self.weights is None else tokens * self.weights[ids, None].to(tokens.dtype)

    def save_pretrained(self, folder: str | os.PathLike, *, normalize: bool = True) -> None:
        """Write a folder in model2vec's layout; `normalize`: its sentence vectors are of unit length."""
        tensors = {"embeddings": self.embeddings, "weights": self.weights, "mapping": self.mapping}
        stored = {name: x.detach().cpu().contiguous() for name, x in tensors.items() if x is not None}
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as target:
            target.mkdir()
            save_file(stored, target / TRANSFORMERS_NAME)
            (target / TOKENIZER_NAME).write_text(self.tokenizer.to_str(), encoding="utf-8")
            config = {"model_type": "model2vec", "architectures": ["StaticModel"], "normalize": normalize}
            (target / CONFIG_NAME).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
    ) -> StaticTextEncoder:
        """Return the vectors in a folder of model2vec's layout, or of sentence-transformers' StaticEmbedding.

        Raises VidgenError for files that are missing or damaged, and for tables that do not fit each other.
        """
        folder = Path(folder)
        tokenizer = read_raw_tokenizer(folder)
        checkpoint = find_checkpoint(folder, TRANSFORMERS_NAME)
        checkpoint.check_memory(dtype, device)
        tensors = dict(checkpoint.read())
        name = next((name for name in TABLES if name in tensors), None)
        if name is None or tensors[name].ndim != 2 or not tensors[name].is_floating_point():
            raise VidgenError(
                f"{checkpoint.where}: no table of vectors named {' or '.join(TABLES)}; not static vectors"
            )
        weights, mapping = tensors.get("weights"), tensors.get("mapping")
        check_tables(checkpoint, tensors[name], weights, mapping)
        # sentence-transformers has a vector for what is not known, where model2vec leaves it out
        unknown = unknown_token(tokenizer) if name == TABLES[0] else None
        table = tensors[name].to(device, dtype, copy=True)
        weights = None if weights is None else weights.to(device, dtype, copy=True)
        mapping = None if mapping is None else mapping.to(device, torch.long, copy=True)
        return cls(tokenizer, table, weights=weights, mapping=mapping, unknown=unknown).eval()


def check_tables(checkpoint: Checkpoint, table: Tensor, weights: Tensor | None, mapping: Tensor | None) -> None:
    """Raise VidgenError unless weights and mapping are of one length, and the mapping is into the table."""
    tokens = len(table) if mapping is None else mapping.numel()
    whole = mapping is None or (mapping.ndim == 1 and tokens > 0 and not mapping.is_floating_point())
    if mapping is not None and not (whole and 0 <= int(mapping.min()) <= int(mapping.max()) < len(table)):
        raise VidgenError(f"{checkpoint.where}: mapping is not one of tokens to the {len(table)} rows of its table")
    if weights is not None and weights.shape != (tokens,):
        raise VidgenError(f"{checkpoint.where}: weights are {tuple(weights.shape)}, of {tokens} tokens; it is damaged")


def read_raw_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder's tokenizer.json, which neither pads nor cuts.

    Raises VidgenError where there is none, or it is damaged.
    """
    from tokenizers import Tokenizer

    check_folder(folder)
    path = folder / TOKENIZER_NAME
    with explained(f"{folder} holds no text tokenizer"):
        if not path.is_file():
            raise VidgenError(f"{TOKENIZER_NAME} is missing")
        tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def unknown_token(tokenizer: Tokenizer) -> int | None:
    """Return the number of the token that stands for what a tokenizer does not know; None where there is none."""
    name = json.loads(tokenizer.to_str())["model"].get("unk_token")
    return None if name is None else tokenizer.token_to_id(name)
