"""Laws of tokens that are known in full: what decoders draw from, and the law that each of them reaches.

A law is a table of the probabilities of all sequences. Its conditionals are exact, by sums over the table, and where
a decoder's choices can be counted, so is the law of what comes out of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.interfaces import MASK
from vidgen.samplers.autoregressive.categorical import PLAIN, TokenSampling, seen_tokens, token_law
from vidgen.samplers.masked.revealing import largest

Grid = tuple[int, int, int]
Places = frozenset[int]
Table = Float[Tensor, " states"]  # one number a sequence, the last token counting fastest


class TokenLaw:
    """A law of n tokens of a vocabulary of v, by the table of its v^n probabilities, float64."""

    def __init__(self, probabilities: Table, vocabulary: int) -> None:
        self.probabilities = probabilities.double() / probabilities.double().sum()
        self.vocabulary = vocabulary
        self.length = round(math.log(len(probabilities), vocabulary))

    @cached_property
    def states(self) -> Int[Tensor, "states n"]:
        """All sequences, in the order of the table."""
        return torch.cartesian_prod(*[torch.arange(self.vocabulary)] * self.length).reshape(-1, self.length)

    @cached_property
    def _log_marginals(self) -> Tensor:
        """The log-probability of every sequence of tokens and masks, a mask being the digit v: flat, (v + 1)^n."""
        table = self.probabilities.reshape([self.vocabulary] * self.length)
        for axis in range(self.length):
            table = torch.cat([table, table.sum(axis, keepdim=True)], dim=axis)
        return table.flatten().log()

    @cached_property
    def _strides(self) -> Tensor:
        return (self.vocabulary + 1) ** torch.arange(self.length).flip(0)

    def number(self, tokens: Int[Tensor, "b n"]) -> Int[Tensor, " b"]:
        """Return the row of each sequence in the table."""
        return (tokens * self.vocabulary ** torch.arange(self.length).flip(0)).sum(1)

    def masked_logits(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Return log p(token, known tokens) of every place: of a known one, given the others that are known."""
        digits = torch.where(tokens == MASK, self.vocabulary, tokens) * self._strides
        others = digits.sum(1, keepdim=True) - digits
        return self._log_marginals[others[..., None] + self._strides[:, None] * torch.arange(self.vocabulary)]

    def causal_logits(self, tokens: Int[Tensor, "b k"]) -> Float[Tensor, "b k_plus_1 v"]:
        """Return those of the first token, and of the one after each; after the last of n there is none: zeros."""
        b, k = tokens.shape
        masked = self.vocabulary * self._strides
        before = torch.cat([masked.new_zeros(b, 1), (tokens * self._strides[:k]).cumsum(1)], dim=1)
        after = masked.sum() - masked.cumsum(0)
        places = min(k + 1, self.length)
        index = (before[:, :places] + after[:places])[..., None]
        logits = self._log_marginals[index + self._strides[:places, None] * torch.arange(self.vocabulary)]
        return torch.cat([logits, logits.new_zeros(b, k + 1 - places, self.vocabulary)], dim=1)


@cache
def potts_law(grid: Grid = (2, 2, 2), vocabulary: int = 3, coupling: float = 0.7) -> TokenLaw:
    """Return Ising's model with a vocabulary (Potts 1952) on a grid of t, h, w: neighbors of the same token attract.

    ln p is, up to a constant, `coupling` for each pair of equal neighbors, and a field at each place that makes some
    tokens more probable there. The default has 8 tokens, 6,561 states.
    """
    places = torch.arange(grid[0] * grid[1] * grid[2]).reshape(grid)
    states = torch.cartesian_prod(*[torch.arange(vocabulary)] * places.numel())
    tokens = torch.arange(vocabulary)
    field = 0.4 * torch.cos(1.7 * places.flatten()[:, None].double() + 2.3 * tokens)
    energy = field[torch.arange(places.numel()), states].sum(1)
    for axis in range(3):
        length = grid[axis] - 1
        first, second = places.narrow(axis, 0, length).flatten(), places.narrow(axis, 1, length).flatten()
        energy = energy + coupling * (states[:, first] == states[:, second]).sum(1)
    return TokenLaw(energy.softmax(0), vocabulary)


def autoregressive_law(law: TokenLaw, sampling: TokenSampling = PLAIN) -> Table:
    """Return the law of causal decoding: the product of the conditionals that `sampling` leaves."""
    tokens = torch.zeros(1, 0, dtype=torch.int64)
    log_probs = torch.zeros(1, dtype=torch.float64)
    for _ in range(law.length):
        seen = seen_tokens(tokens, law.vocabulary)
        conditional = token_law(law.causal_logits(tokens)[:, -1], sampling, seen)
        choices = torch.arange(law.vocabulary).repeat(len(tokens))[:, None]
        tokens = torch.cat([tokens.repeat_interleave(law.vocabulary, dim=0), choices], dim=1)
        log_probs = (log_probs[:, None] + conditional).flatten()
    return log_probs.exp()


def conditional_table(law: TokenLaw, known: Places, sampling: TokenSampling) -> Float[Tensor, "states n"]:
    """Return ln p(token at each place | tokens at the known places), as `sampling` leaves it, of every sequence."""
    places = sorted(known)
    radix = law.vocabulary ** torch.arange(len(places)).flip(0)
    # sequences that agree at the known places have the same law at the others: it is looked up once for all of them
    numbers = torch.arange(law.vocabulary ** len(places))
    tokens = torch.full((len(numbers), law.length), MASK)
    tokens[:, places] = numbers[:, None] // radix % law.vocabulary
    seen = seen_tokens(tokens, law.vocabulary)[:, None]
    laws = token_law(law.masked_logits(tokens), sampling, seen)
    rows = (law.states[:, places] * radix).sum(1)
    return laws[rows[:, None], torch.arange(law.length), law.states]


def grouped_law(law: TokenLaw, groups: Sequence[Sequence[int]], sampling: TokenSampling = PLAIN) -> Table:
    """Return the law where the places of each group are drawn at once, given the groups before it."""
    log_probs = torch.zeros(len(law.states), dtype=torch.float64)
    known: Places = frozenset()
    for group in groups:
        log_probs += conditional_table(law, known, sampling)[:, list(group)].sum(1)
        known |= set(group)
    return log_probs.exp()


Step = Callable[[Places, Table, int], dict[Places, Table]]  # (known places, their law, how many more) -> the same


def law_by_steps(law: TokenLaw, counts: Sequence[int], step: Step) -> Table:
    """Return the law after steps that reveal so many tokens each; by known places, a table that depends on them."""
    laws: dict[Places, Table] = {frozenset(): torch.ones(len(law.states), dtype=torch.float64)}
    for count in counts:
        after: dict[Places, Table] = {}
        for known, probabilities in laws.items():
            for places, added in step(known, probabilities, count).items():
                after[places] = after[places] + added if places in after else added
        laws = after
    (probabilities,) = laws.values()
    return probabilities


def random_order_law(law: TokenLaw, counts: Sequence[int], sampling: TokenSampling = PLAIN) -> Table:
    """Return the law where each step draws so many tokens at once, at places that are chosen at random."""

    def step(known: Places, probabilities: Table, count: int) -> dict[Places, Table]:
        log_probs = conditional_table(law, known, sampling)
        choices = list(combinations([place for place in range(law.length) if place not in known], count))
        return {
            known | set(chosen): probabilities * log_probs[:, list(chosen)].sum(1).exp() / len(choices)
            for chosen in choices
        }

    return law_by_steps(law, counts, step)


def confidence_law(law: TokenLaw, counts: Sequence[int], sampling: TokenSampling = PLAIN) -> Table:
    """Return the law of MaskGIT at choice temperature 0: of all draws, each step keeps the most confident."""
    shape = [law.vocabulary] * law.length

    def step(known: Places, probabilities: Table, count: int) -> dict[Places, Table]:
        masked = torch.tensor([place not in known for place in range(law.length)])
        drawn = probabilities * conditional_table(law, known, sampling)[:, masked].sum(1).exp()
        confidence = conditional_table(law, known, PLAIN)
        kept = largest(confidence, masked.expand_as(confidence), torch.full((len(confidence),), count))
        code = (kept * 2 ** torch.arange(law.length)).sum(1)
        after = {}
        for chosen in code.unique().tolist():
            places = known | {place for place in range(law.length) if chosen >> place & 1}
            forgotten = [place for place in range(law.length) if place not in places]
            table = (drawn * (code == chosen)).reshape(shape)
            summed = table.sum(forgotten, keepdim=True) if forgotten else table
            after[places] = summed.expand(shape).flatten()
        return after

    return law_by_steps(law, counts, step)


def strict_logits(law: TokenLaw) -> Callable[[Tensor], Tensor]:
    """Return the law's masked logits with NaN at known places: a decoder that looks at those ends in an error."""

    def logits(tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        return law.masked_logits(tokens).masked_fill((tokens != MASK)[..., None], torch.nan)

    return logits
