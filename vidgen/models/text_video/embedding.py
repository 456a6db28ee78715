"""A text or a clip in the space that both share: a vector, and where a model keeps them the tokens behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Texts or clips in a shared space.

    vectors: one each, of unit length.
    tokens: of a clip one a frame (of tubelets: one a tube in time), of a text one a word or byte; of unit length. None
        where a model keeps none.
    mask: True on tokens, False on padding; of `tokens`.
    """

    vectors: Float[Tensor, "b d"]
    tokens: Float[Tensor, "b l d"] | None = None
    mask: Bool[Tensor, "b l"] | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, rows: slice | Tensor | Sequence[int]) -> Embedding:
        """Return some of the texts or clips."""
        parts = (self.vectors, self.tokens, self.mask)
        vectors, tokens, mask = (None if part is None else part[rows] for part in parts)
        return Embedding(vectors=vectors, tokens=tokens, mask=mask)


def join_embeddings(parts: Sequence[Embedding]) -> Embedding:
    """Return the texts or clips of all parts; tokens are padded to the longest."""
    vectors = torch.cat([part.vectors for part in parts])
    if any(part.tokens is None for part in parts):
        return Embedding(vectors=vectors)
    length = max(part.tokens.shape[1] for part in parts)
    tokens = [F.pad(part.tokens, (0, 0, 0, length - part.tokens.shape[1])) for part in parts]
    masks = [F.pad(part.mask, (0, length - part.mask.shape[1])) for part in parts]
    return Embedding(vectors=vectors, tokens=torch.cat(tokens), mask=torch.cat(masks))
