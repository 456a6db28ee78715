"""A prior of any order as a model of masked tokens: all unknown ones at once, each as the next after those known."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.models.attention_patterns import Grid
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import Tokens, blank_tokens, is_unknown, take_tokens
from vidgen.models.text.encoders import TextEncoding

LAST_TURN = 2**31  # of tokens that are not known yet


class Turns:
    """In which order tokens became known, of one decoding: what several models of it have in common."""

    def __init__(self) -> None:
        self.calls = 0
        self._of: Int[Tensor, "b n"] | None = None  # the call in which each token was known first

    def take(self, unknown: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
        """Return the order of tokens: as they became known, and last those that are not (again)."""
        turns = torch.full_like(unknown, LAST_TURN, dtype=torch.int64) if self._of is None else self._of
        self._of = torch.where(unknown, LAST_TURN, turns.clamp(max=self.calls))
        self.calls += 1
        return self._of.argsort(dim=1, stable=True)


class AnyOrderLogits:
    """`MaskedLogits` of a prior of order "random": its law of each unknown token, where that one comes next.

    Tokens that are known come in the order in which they became so from call to call (those of one call by their
    place), so that one token a call draws from the prior's own law, and several at once are as independent as they are
    of a masked prior (the burst sampling of Pannatier et al. 2024, arXiv 2404.09562, section 3.3). A slot of an unknown
    token reads the last known one, and sees the known ones and itself. One object serves one decoding.

    Args:
        prior: Of order "random".
        grid: Cells (t, h, w).
        text: What is read of a text, for each clip.
        turns: Those of another model of the same decoding, which is asked first at every step: guidance has two.
        conditions: `class_id`, `actions`, as `TokenPrior.forward` takes them.
    """

    def __init__(
        self,
        prior: TokenPrior,
        grid: Grid,
        text: TextEncoding | None = None,
        *,
        turns: Turns | None = None,
        **conditions: Any,
    ) -> None:
        if prior.config.order != "random":
            raise ValueError(f"a prior of order {prior.config.order} knows one order alone")
        prior.check_conditions(text, conditions.get("class_id"), conditions.get("actions"))
        self.prior, self.grid, self.conditions = prior, grid, conditions
        self.text = prior.read_text(text)
        self.turns = turns or Turns()

    def __call__(self, tokens: Tokens) -> Float[Tensor, "b n v"]:
        """Return the logits of all tokens; those of known ones are of the law after the ones before them."""
        unknown = is_unknown(tokens)
        order, known = self.turns.take(unknown), (~unknown).sum(1)
        n = tokens.shape[1]
        before = torch.arange(-1, n - 1, device=tokens.device).minimum(known[:, None] - 1)
        sources = order.gather(1, before.clamp(min=0))
        read = take_tokens(torch.cat([blank_tokens(tokens, 1), take_tokens(tokens, order)], dim=1), before + 1)
        x = self.prior.embed_slots(read, order, sources, self.grid, **self.conditions)
        rotary = self.prior.rotary_of(self.grid, x)
        attend = partial(self.prior.over_order, rotary=rotary, order=order, mask=candidate_mask(n, known))
        for block, heads in zip(self.prior.blocks, self.text, strict=True):
            x = block(x, attend, heads)
        logits = self.prior.predict(x, order)
        return torch.zeros_like(logits).scatter(1, order[..., None].expand_as(logits), logits)


def candidate_mask(n: int, known: Int[Tensor, " b"]) -> Bool[Tensor, "b n n"]:
    """Return which slots (columns) each one (row) sees: of the first `known` those up to itself, later ones these and
    themselves."""
    column = torch.arange(n, device=known.device)
    row = column[:, None]
    return ((column <= row) & (column < known[:, None, None])) | (column == row)
