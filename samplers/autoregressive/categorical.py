"""Draws of tokens from logits: filters on log-probabilities, and exact draws, all of it in float64.

A draw is the inverse of the cumulative distribution at one uniform number of 53 bits. Gumbel noise in float32, the
usual way, ends at 16.6: tokens rarer than that are never drawn, which is as if the temperature were lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.bounds import Count, Range, check_fields
from vidgen.diffusion.noise import Generators
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK

ROUNDING = 1e-12  # what float64 leaves open where a sum of probabilities is held against a bound
NUMBERS_AT_ONCE = 2**22  # of float64, 32 MiB: logits of a clip in a vocabulary of 65,536 would be gigabytes


@dataclass(frozen=True, kw_only=True)
class TokenSampling:
    """How tokens are drawn from a model's law: which are left, and how sharp it is.

    The filters act in the order of transformers: `repetition_penalty`, `temperature`, `top_k`, `top_p`, `min_p`, each
    on what the one before has left. None and 1 leave the law alone. Temperature 0 takes the most probable token.
    Raises VidgenError for what is out of bounds.
    """

    temperature: Annotated[float, Range(0.0, 1000.0)] = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Range(0.0, 1.0, above=True)] | None = None
    min_p: Annotated[float, Range(0.0, 1.0)] | None = None
    repetition_penalty: Annotated[float, Range(0.0, 1000.0, above=True)] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def draw_noise(
        self, batch: int, count: int, generators: Generators, active: Bool[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b count"]:
        """Return `draw_uniform`: a number a token."""
        return draw_uniform(batch, count, generators, active)

    def draw(
        self, outputs: Float[Tensor, "m v"], noise: Float[Tensor, " m"], tokens: Int[Tensor, "b n"], owner: Tensor
    ) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"]]:
        """Return `draw_tokens` of logits; the tokens so far count for the repetition penalty."""
        seen = seen_tokens(tokens, outputs.shape[-1]) if self.repetition_penalty != 1.0 else None
        return draw_tokens(outputs, self, noise, seen, owner)


PLAIN = TokenSampling()


def log_probabilities(logits: Float[Tensor, "... v"]) -> Float[Tensor, "... v"]:
    """Return log-softmax in float64; logits of -inf are tokens that cannot be.

    Raises VidgenError for NaN and +inf, and for logits that leave no token.
    """
    highest = logits.amax(-1)
    if not bool(torch.isfinite(highest).all()):  # NaN is the maximum of whatever it is among
        raise VidgenError("the model gave logits of NaN or infinity, or left no token; try float32 weights")
    return logits.double().log_softmax(-1)


def penalize_repetition(
    log_probs: Float[Tensor, "... v"], seen: Bool[Tensor, "... v"], penalty: float
) -> Float[Tensor, "... v"]:
    """Return p^penalty for tokens of `seen`, then normalized (Keskar et al. 2019, section 4.1).

    They divide logits by the penalty, whose effect hangs on where the logits' zero is, and on their sign; of
    log-probabilities, which are never positive, nothing is left open.
    """
    return torch.where(seen, log_probs * penalty, log_probs).log_softmax(-1)


def apply_temperature(log_probs: Float[Tensor, "... v"], temperature: float) -> Float[Tensor, "... v"]:
    """Return p^(1 / temperature), normalized; at 0 the most probable token has all, of equals the one of lowest id."""
    if temperature == 1.0:
        return log_probs
    if temperature == 0.0:
        return torch.full_like(log_probs, -torch.inf).scatter(-1, log_probs.argmax(-1, keepdim=True), 0.0)
    # the largest is moved to 0 first, so that no temperature makes it overflow
    return ((log_probs - log_probs.amax(-1, keepdim=True)) / temperature).log_softmax(-1)


def keep_top_k(log_probs: Float[Tensor, "... v"], k: int) -> Float[Tensor, "... v"]:
    """Return the law of the k most probable tokens, normalized (Fan et al. 2018); of equals those of lower id stay."""
    if k >= log_probs.shape[-1]:
        return log_probs
    order = log_probs.argsort(dim=-1, descending=True, stable=True)
    return log_probs.scatter(-1, order[..., k:], -torch.inf).log_softmax(-1)


def keep_top_p(log_probs: Float[Tensor, "... v"], p: float) -> Float[Tensor, "... v"]:
    """Return the law of the nucleus: the fewest tokens whose probabilities sum to at least p, normalized.

    Holtzman et al. 2020, eq. 2. Of equals those of lower id come first. p = 1 leaves the law alone, tails included.
    """
    if p >= 1.0:
        return log_probs
    ordered, order = log_probs.sort(dim=-1, descending=True, stable=True)
    probs = ordered.exp()
    before = probs.cumsum(-1) - probs  # what the more probable ones sum to
    outside = torch.empty_like(before, dtype=torch.bool).scatter(-1, order, before >= p - ROUNDING)
    outside.scatter_(-1, order[..., :1], False)  # of the most probable there is always one
    return log_probs.masked_fill(outside, -torch.inf).log_softmax(-1)


def keep_min_p(log_probs: Float[Tensor, "... v"], p: float) -> Float[Tensor, "... v"]:
    """Return the law of tokens at least p times as probable as the most probable, normalized (Nguyen et al. 2024)."""
    ratio = (log_probs - log_probs.amax(-1, keepdim=True)).exp()
    return log_probs.masked_fill(ratio < p - ROUNDING, -torch.inf).log_softmax(-1)


def seen_tokens(tokens: Int[Tensor, "b n"], vocabulary: int) -> Bool[Tensor, "b v"]:
    """Return which tokens of the vocabulary are in each sequence; MASK is none."""
    counts = torch.zeros(len(tokens), vocabulary + 1, dtype=torch.bool, device=tokens.device)
    counts.scatter_(1, torch.where(tokens == MASK, vocabulary, tokens), True)
    return counts[:, :vocabulary]


def token_law(
    logits: Float[Tensor, "... v"], sampling: TokenSampling = PLAIN, seen: Bool[Tensor, "... v"] | None = None
) -> Float[Tensor, "... v"]:
    """Return the log-probabilities, in float64, by which tokens are drawn under `sampling`.

    `seen` are the tokens that were there before, for the repetition penalty. Raises VidgenError as `log_probabilities`.
    """
    return filter_tokens(log_probabilities(logits), sampling, seen)


def filter_tokens(
    log_probs: Float[Tensor, "... v"], sampling: TokenSampling, seen: Bool[Tensor, "... v"] | None = None
) -> Float[Tensor, "... v"]:
    """Return `token_law` of what are log-probabilities already."""
    if sampling.repetition_penalty != 1.0 and seen is not None:
        log_probs = penalize_repetition(log_probs, seen, sampling.repetition_penalty)
    log_probs = apply_temperature(log_probs, sampling.temperature)
    if sampling.top_k is not None:
        log_probs = keep_top_k(log_probs, sampling.top_k)
    if sampling.top_p is not None:
        log_probs = keep_top_p(log_probs, sampling.top_p)
    if sampling.min_p is not None:
        log_probs = keep_min_p(log_probs, sampling.min_p)
    return log_probs


def draw_uniform(
    batch: int, count: int, generators: Generators, active: Bool[Tensor, " b"] | None = None
) -> Float[Tensor, "b count"]:
    """Draw `count` numbers of [0, 1) a sample, float64 on the CPU, whatever device will use them.

    Of a list of generators one stream a sample, so that no sample depends on its batch; samples that are not `active`
    draw nothing, and have zeros. Of one generator the whole batch at once. Raises VidgenError for a list of another
    length.
    """
    if isinstance(generators, torch.Generator):
        return torch.rand(batch, count, generator=generators, dtype=torch.float64)
    if len(generators) != batch:
        raise VidgenError(f"{len(generators)} generators for {batch} samples; give one a sample, or a single one")
    draws = torch.zeros(batch, count, dtype=torch.float64)
    drawing = [True] * batch if active is None else active.tolist()
    for row, generator in enumerate(generators):
        if drawing[row]:
            draws[row] = torch.rand(count, generator=generator, dtype=torch.float64)
    return draws


def inverse_cdf(probs: Float[Tensor, "... v"], uniforms: Float[Tensor, ...]) -> Int[Tensor, ...]:
    """Return the token whose part of the cumulative distribution holds each uniform number; weights of any sum.

    Tokens of weight 0 are never returned.
    """
    cdf = probs.cumsum(-1).contiguous()
    target = (uniforms * cdf[..., -1]).unsqueeze(-1)
    tokens = torch.searchsorted(cdf, target, right=True).squeeze(-1)  # the first whose sum lies above
    # rounding may carry the target to the whole sum, which lies in the last token that has any weight
    last = torch.searchsorted(cdf, cdf[..., -1:].contiguous()).squeeze(-1)
    return torch.minimum(tokens, last)


def draw_tokens(
    logits: Float[Tensor, "m v"],
    sampling: TokenSampling,
    uniforms: Float[Tensor, " m"],
    seen: Bool[Tensor, "b v"] | None = None,
    owner: Int[Tensor, " m"] | None = None,
) -> tuple[Int[Tensor, " m"], Float[Tensor, " m"]]:
    """Return a token for each row of logits, and its log-probability in the model's own law, without `sampling`.

    Args:
        logits: One row a token that is to be drawn.
        sampling: The filters.
        uniforms: One number of [0, 1) a row.
        seen: Tokens that each sequence holds, for the repetition penalty.
        owner: The row of `seen` that each row of logits belongs to; None: its own.
    """
    tokens, log_probs = [], []
    uniforms = uniforms.to(logits.device)
    rows = max(1, NUMBERS_AT_ONCE // logits.shape[-1])
    for first in range(0, len(logits), rows):
        part = slice(first, first + rows)
        history = None if seen is None else seen[part] if owner is None else seen[owner[part]]
        own = log_probabilities(logits[part])
        drawn = inverse_cdf(filter_tokens(own, sampling, history).exp(), uniforms[part])
        tokens.append(drawn)
        log_probs.append(own.gather(-1, drawn.unsqueeze(-1)).squeeze(-1))
    if not tokens:
        empty = torch.zeros(0, dtype=torch.int64, device=logits.device)
        return empty, empty.double()
    return torch.cat(tokens), torch.cat(log_probs)
