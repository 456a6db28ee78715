"""Any-order decoding: one token a step, each given all that are known; of a consistent model this is its own law."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.errors import VidgenError
from vidgen.interfaces import MaskedLogits, TokenDraws
from vidgen.models.priors.token_values import Tokens, is_unknown
from vidgen.samplers.masked.orders import random_ranks
from vidgen.samplers.masked.revealing import check_sequences, largest, reveal


@torch.no_grad()
def sample_any_order(
    logits: MaskedLogits,
    tokens: Tokens,
    sampling: TokenDraws,
    generators: Generators,
    *,
    order: Int[Tensor, " n"] | None = None,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tokens:
    """Draw the unknown tokens of each sequence one a step; the known ones stay as they are.

    Uria et al. 2014 and Hoogeboom et al. 2022, algorithm 1. Raises VidgenError for tokens that are none, an order that
    is none, and logits of NaN.

    Args:
        logits: The model.
        tokens: Sequences in which unknown tokens are MASK; continuous ones NaN.
        sampling: Temperature and filters, or the head of continuous tokens.
        generators: One a sample (on the CPU), so that no sample depends on its batch, or one for all.
        order: Places in the order of their turns (known ones are passed over); None draws one for each sequence.
        callback: Called as (number of tokens drawn, tokens (b, n)) after each step.
    """
    tokens = check_sequences(tokens)
    unknown = is_unknown(tokens).sum(1)
    ranks = random_ranks(tokens, generators, unknown > 0) if order is None else order_ranks(order, tokens)
    for step in range(int(unknown.max()) if len(unknown) else 0):
        active = unknown > step
        chosen = largest(-ranks, is_unknown(tokens), active.long())
        noise = sampling.draw_noise(*tokens.shape[:2], generators, active)
        tokens, _ = reveal(logits, tokens, chosen, sampling, noise)
        if callback is not None:
            callback(step + 1, tokens)
    return tokens


def order_ranks(order: Int[Tensor, " n"], tokens: Tokens) -> Float[Tensor, "b n"]:
    """Return when each place has its turn. Raises VidgenError for what is no order of all places."""
    n = tokens.shape[1]
    if order.shape != (n,) or not torch.equal(order.sort().values.cpu(), torch.arange(n)):
        raise VidgenError(f"the order has to name each of {n} places once")
    return order.argsort().double().to(tokens.device).expand(len(tokens), -1)
