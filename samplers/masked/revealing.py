"""What every step of a masked decoder does: some unknown tokens are drawn, each from the model's law at its place."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import MASK, MaskedLogits, TokenDraws
from vidgen.models.priors.token_values import Tokens


def check_sequences(tokens: Tokens) -> Tokens:
    """Return a copy of the sequences to fill in. Raises VidgenError for what are no tokens (int64, from MASK up; or
    vectors)."""
    if tokens.ndim == 3 and tokens.is_floating_point():
        return tokens.clone()
    if tokens.ndim != 2 or tokens.dtype != torch.int64:
        raise VidgenError(f"tokens are {tokens.dtype} of shape {tuple(tokens.shape)}; int64 (b, n) is wanted")
    if tokens.numel() and int(tokens.min()) < MASK:
        raise VidgenError(f"tokens go down to {int(tokens.min())}; they are ids from 0 on, or {MASK} where unknown")
    return tokens.clone()


def reveal(
    logits: MaskedLogits,
    tokens: Tokens,
    chosen: Bool[Tensor, "b n"],
    sampling: TokenDraws,
    noise: Float[Tensor, "b n *e"],
) -> tuple[Tokens, Float[Tensor, "b n"]]:
    """Return the sequences with the chosen tokens drawn, and the draws' log-probabilities in the model's own law; NaN
    of continuous tokens.

    The chosen are drawn independently of each other given the known ones, none of which is drawn again: `chosen` has
    unknown tokens alone. Only their logits are looked at. Raises VidgenError for logits of NaN, logits of another
    shape, and known tokens beyond the vocabulary.
    """
    scores = logits(tokens)
    if scores.shape[:2] != tokens.shape[:2]:
        raise VidgenError(f"the model gave logits {tuple(scores.shape)} for tokens {tuple(tokens.shape)}")
    vocabulary = scores.shape[-1]
    if not tokens.is_floating_point() and int(tokens.max()) >= vocabulary:
        raise VidgenError(f"there is a token {int(tokens.max())} in a vocabulary of {vocabulary}")
    rows, columns = chosen.nonzero(as_tuple=True)
    noise = noise.to(tokens.device)[rows, columns]
    drawn, drawn_log_probs = sampling.draw(scores[rows, columns], noise, tokens, rows)
    sequences = tokens.clone()
    sequences[rows, columns] = drawn
    log_probs = torch.zeros(tokens.shape[:2], dtype=torch.float64, device=tokens.device)
    log_probs[rows, columns] = torch.nan if drawn_log_probs is None else drawn_log_probs
    return sequences, log_probs


def largest(score: Float[Tensor, "b n"], among: Bool[Tensor, "b n"], count: Int[Tensor, " b"]) -> Bool[Tensor, "b n"]:
    """Return where the `count` largest scores of each sequence are, of those places that are `among`."""
    order = score.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(score.shape[1], device=score.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return (rank < count[:, None]) & among
