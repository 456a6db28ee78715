"""Interactions of texts and clips token by token, and what every interaction with tokens needs."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.models.text_video.embedding import Embedding

PART = 2**24  # numbers in the largest tensor of pairs that is in memory at once


def tokens_of(embedding: Embedding, side: str) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
    """Return tokens and which of them are there; `side` is what messages call them. Raises VidgenError for an embedding
    without tokens."""
    if embedding.tokens is None:
        raise VidgenError(f"this interaction compares tokens, and the model keeps none of {side}; use cosine")
    mask = embedding.mask
    if mask is None:
        mask = torch.ones(embedding.tokens.shape[:2], dtype=torch.bool, device=embedding.tokens.device)
    return embedding.tokens, mask


def in_parts(
    compare: Callable[[Embedding, Embedding], Float[Tensor, "n m"]], texts: Embedding, videos: Embedding, numbers: int
) -> Float[Tensor, "n m"]:
    """Return the scores of all pairs by `compare` of some texts at a time; a pair takes so many `numbers`."""
    rows = max(1, PART // max(1, numbers * len(videos)))
    parts = [compare(texts[start : start + rows], videos) for start in range(0, len(texts), rows)]
    return torch.cat(parts) if parts else texts.vectors.new_zeros(0, len(videos))


def masked_mean(x: Float[Tensor, "*b l"], mask: Bool[Tensor, "*b l"]) -> Float[Tensor, "*b"]:
    """Return the mean over tokens; 0 where there are none."""
    return torch.where(mask, x, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


class Tokenwise(nn.Module):
    """The mean over one side's tokens of the largest cosine to the other's, both ways averaged (Yao et al. 2022,
    FILIP)."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs. Raises VidgenError for embeddings without tokens."""
        words, frames = tokens_of(texts, "texts")[0], tokens_of(videos, "clips")[0]
        return in_parts(self.compare, texts, videos, words.shape[1] * frames.shape[1])

    def compare(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs, at once."""
        words, visible = tokens_of(texts, "texts")
        frames, present = tokens_of(videos, "clips")
        cosines = einsum(words, frames, "n l d, m f d -> n m l f")
        lowest = torch.finfo(cosines.dtype).min
        to_frames = cosines.masked_fill(~present[None, :, None], lowest).amax(3)  # n m l
        to_words = cosines.masked_fill(~visible[:, None, :, None], lowest).amax(2)  # n m f
        of_words = self.mean_of_words(to_frames, words, visible)
        of_frames = self.mean_of_frames(to_words, frames, present)
        return (of_words + of_frames) / 2

    def mean_of_words(
        self, best: Float[Tensor, "n m l"], words: Float[Tensor, "n l d"], mask: Bool[Tensor, "n l"]
    ) -> Float[Tensor, "n m"]:
        """Return the mean over words of what each found best."""
        return masked_mean(best, mask[:, None].expand_as(best))

    def mean_of_frames(
        self, best: Float[Tensor, "n m f"], frames: Float[Tensor, "m f d"], mask: Bool[Tensor, "m f"]
    ) -> Float[Tensor, "n m"]:
        """Return the mean over frames of what each found best."""
        return masked_mean(best, mask[None].expand_as(best))


class TokenWeights(nn.Module):
    """Weights of tokens that sum to one, by a small network; at first all are equal."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l"]:
        """Return the weights, 0 of padding."""
        logits = rearrange(self.out(F.relu(self.hidden(tokens))), "b l 1 -> b l")
        return logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(-1) * mask


class WeightedTokenwise(Tokenwise):
    """`Tokenwise` with learned weights in place of means (Wang et al. 2022, DRL: weighted token-wise
    interaction)."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.weigh_words = TokenWeights(width)
        self.weigh_frames = TokenWeights(width)

    def mean_of_words(
        self, best: Float[Tensor, "n m l"], words: Float[Tensor, "n l d"], mask: Bool[Tensor, "n l"]
    ) -> Float[Tensor, "n m"]:
        """Return the weighted mean over words of what each found best."""
        return einsum(best, self.weigh_words(words, mask), "n m l, n l -> n m")

    def mean_of_frames(
        self, best: Float[Tensor, "n m f"], frames: Float[Tensor, "m f d"], mask: Bool[Tensor, "m f"]
    ) -> Float[Tensor, "n m"]:
        """Return the weighted mean over frames of what each found best."""
        return einsum(best, self.weigh_frames(frames, mask), "n m f, m f -> n m")
