"""What the tokens of a set of clips are: indices as streams of symbols, and how much of the codebook they use."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from vidgen.interfaces import Tokenizer
from vidgen.tokenizers.bottlenecks.index_statistics import index_statistics

Indices = Int[Tensor, "1 t h w"] | Int[Tensor, "1 t h w q"]


def codebook_size(tokenizer: Tokenizer) -> int:
    """Return how many symbols a token has, in one codebook; 0 for a continuous tokenizer."""
    return int(getattr(getattr(tokenizer, "bottleneck", None), "codebook_size", 0) or 0)


def symbol_streams(pieces: Sequence[Indices]) -> Int[np.ndarray, "q n"]:
    """Return consecutive pieces of a clip's indices as one row a codebook, in the order t h w."""
    rows = [rearrange(p if p.ndim == 5 else p[..., None], "1 t h w q -> q (t h w)").cpu().numpy() for p in pieces]
    return np.concatenate(rows, axis=1)


class TokenCount:
    """Gathers the tokens of a discrete tokenizer; of a continuous one there are none to count."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.codebook_size = codebook_size(tokenizer)
        self._clips: list[Int[np.ndarray, "q n"]] = []

    def add(self, pieces: Sequence[Indices]) -> None:
        """Add the indices of one clip; none of a continuous tokenizer."""
        if pieces:
            self._clips.append(symbol_streams(pieces))

    def report(self) -> dict[str, Any] | None:
        """Return how the codebooks are used, or None for a continuous tokenizer.

        "codebook_size", "tokens" (positions), and, a number a codebook, "usage" (share of the codes that occur),
        "perplexity" (2^entropy) and "bits_per_token" (empirical entropy, against "bits", log2 of the codebook).
        """
        if not self._clips:
            return None
        books = np.concatenate(self._clips, axis=1)
        counted = [index_statistics(torch.from_numpy(book), self.codebook_size) for book in books]
        return {
            "codebook_size": self.codebook_size,
            "bits": log2(self.codebook_size),
            "tokens": books.shape[1],
            "usage": [c.usage for c in counted],
            "perplexity": [c.perplexity for c in counted],
            "bits_per_token": [c.bits_per_token for c in counted],
        }
