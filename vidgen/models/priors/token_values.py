"""What stands in the places of a token grid, ids of codebooks or vectors, and how each is embedded and predicted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.interfaces import MASK

Tokens = Int[Tensor, "b n"] | Float[Tensor, "b n c"]
WORDS_END = 256  # after the bytes of a caption, up to the end of their places
WORD_IDS = 257


@dataclass(frozen=True)
class Books:
    """Which codebook a place has: the codes of a cell, of `codes` ids, come one after the other, behind `words` places
    for the bytes of a caption."""

    codes: tuple[int, ...]
    words: int = 0

    @property
    def sizes(self) -> tuple[int, ...]:
        """Ids of each codebook, that of words last."""
        return (*self.codes, WORD_IDS) if self.words else self.codes

    def at(self, places: Int[Tensor, "*k"]) -> Int[Tensor, "*k"]:
        """Return the number of the codebook of each place."""
        code = places % max(len(self.codes), 1)  # of vectors there is one
        return torch.where(places < self.words, len(self.codes), code) if self.words else code

    def sizes_at(self, places: Int[Tensor, "*k"]) -> Int[Tensor, "*k"]:
        """Return how many ids the codebook of each place has."""
        return torch.tensor(self.sizes, device=places.device)[self.at(places)]


def is_unknown(tokens: Tokens) -> Bool[Tensor, "b n"]:
    """Return which tokens are not known: ids that are `MASK`, or vectors of NaN."""
    return tokens.isnan().any(-1) if tokens.is_floating_point() else tokens == MASK


def hide_tokens(tokens: Tokens, hidden: Bool[Tensor, "b n"]) -> Tokens:
    """Return tokens of which those that are `hidden` are unknown."""
    if tokens.is_floating_point():
        return tokens.masked_fill(hidden[..., None], torch.nan)
    return tokens.masked_fill(hidden, MASK)


def blank_tokens(like: Tokens, count: int) -> Tokens:
    """Return `count` unknown tokens for each sequence, of the kind of `like`."""
    unknown = torch.nan if like.is_floating_point() else MASK
    return like.new_full((len(like), count, *like.shape[2:]), unknown)


def choose_tokens(chosen: Bool[Tensor, "b n"], tokens: Tokens, others: Tokens) -> Tokens:
    """Return `tokens` where they are `chosen`, else `others`."""
    return torch.where(chosen.reshape(chosen.shape + (1,) * (tokens.ndim - 2)), tokens, others)


def take_tokens(tokens: Tokens, places: Int[Tensor, "b k"]) -> Tokens:
    """Return the tokens at these places of each sequence."""
    if tokens.ndim == 2:
        return tokens.gather(1, places)
    return tokens.gather(1, places[..., None].expand(*places.shape, tokens.shape[2]))


def check_ids(tokens: Int[Tensor, "b n"], books: Books, *, masks: bool = True) -> None:
    """Raise VidgenError for ids that the codebook of their place does not have; `MASK` is one where `masks` may be."""
    limits = books.sizes_at(torch.arange(tokens.shape[1], device=tokens.device))
    wrong = ((tokens < 0) & ((tokens != MASK) | (not masks))) | (tokens >= limits)
    if bool(wrong.any()):
        row, place = wrong.nonzero()[0].tolist()
        raise VidgenError(
            f"token {tokens[row, place].item()} at place {place} is none of its codebook, whose ids are 0 to "
            f"{limits[place].item() - 1}; are the indices of another tokenizer?"
        )


def keep_to_books(tokens: Tokens, first: int, books: Books) -> Tokens:
    """Return tokens from place `first` on, of which ids that the codebook of their place lacks are its last one.

    Drafts of speculative decoding may be such ids, drawn by the law of another place. They have no probability at their
    own, so that none is kept, whatever is read in its stead.
    """
    if len(books.sizes) < 2:
        return tokens
    places = torch.arange(first, first + tokens.shape[1], device=tokens.device)
    return tokens.minimum(books.sizes_at(places) - 1)


class CodeEmbedding(nn.Embedding):
    """Embeds ids; each codebook has embeddings of its own."""

    def __init__(self, books: Books, width: int) -> None:
        super().__init__(sum(books.sizes), width)
        self.books = books
        self.register_buffer("starts", code_starts(books.sizes), persistent=False)

    def forward(self, tokens: Int[Tensor, "b k"], places: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
        """Return the embeddings of tokens at these places; those of unknown ones are nobody's business."""
        return super().forward(tokens.clamp(min=0) + self.starts[self.books.at(places)])


class VectorEmbedding(nn.Linear):
    """Embeds vectors."""

    def forward(self, tokens: Float[Tensor, "b k c"], places: Int[Tensor, "b k"]) -> Float[Tensor, "b k d"]:
        """Return the embeddings of tokens, whose places do not matter; those of unknown ones are nobody's business."""
        return super().forward(tokens.nan_to_num().to(self.weight.dtype))


class CodeHead(nn.Linear):
    """Gives the logits of ids."""

    def __init__(self, width: int, books: Books) -> None:
        super().__init__(width, sum(books.sizes))
        self.books = books
        self.register_buffer("starts", code_starts(books.sizes), persistent=False)

    def predict(self, x: Float[Tensor, "b k d"], places: Int[Tensor, "*b k"]) -> Float[Tensor, "b k v"]:
        """Return the logits of tokens at these places, in float32 at least; -inf for ids that a codebook lacks."""
        logits = self(x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if len(self.books.sizes) == 1:
            return logits
        values = torch.arange(max(self.books.sizes), device=x.device)
        columns = self.starts[self.books.at(places)][..., None] + values
        exists = values < self.books.sizes_at(places)[..., None]
        columns = torch.where(exists, columns, torch.zeros_like(columns)).expand(*logits.shape[:-1], -1)
        return logits.gather(-1, columns).masked_fill(~exists, float("-inf"))


def code_starts(sizes: tuple[int, ...]) -> Int[Tensor, " q"]:
    """Return where each codebook begins in a table of all."""
    return torch.tensor([0, *sizes[:-1]]).cumsum(0)
