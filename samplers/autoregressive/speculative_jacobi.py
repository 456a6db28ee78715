"""Speculative Jacobi decoding: a window of drafts is read in one pass, and those that stand a test are kept.

Teng et al. 2024 (arXiv 2410.01699): drafts are the model's own from the pass before, whose law q at each place is
remembered. With p the law given the drafts before it, a draft x stands with probability min(1, p(x) / q(x)), and else
is drawn anew from max(0, p - q), normalized (Leviathan et al. 2023, appendix A.1): what comes out has the law p. All
tokens are final up to the first that did not stand, included. Those behind it go through the same test, as in Kang et
al. 2026 (arXiv 2603.18599), and are the next pass's drafts, of which more stand than of fresh ones.

The law is the model's. At each place, what is drawn and tested there looks back only at places before it, and so does
the pass in which those are final; given them the token has the law p of that pass, which is the model's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK, SequenceModel
from vidgen.samplers.autoregressive.categorical import TokenSampling, draw_uniform, inverse_cdf, seen_tokens, token_law
from vidgen.samplers.autoregressive.decode import TokensCallback, read_prefix


@dataclass(frozen=True)
class SpeculativeTokens:
    """Sequences, and how many passes of the model they took: the batch, and each sequence had it been alone."""

    tokens: Int[Tensor, "b num_tokens"]
    passes: int
    passes_each: Int[Tensor, " b"]


@torch.no_grad()
def sample_speculative_jacobi(
    model: SequenceModel,
    num_tokens: int,
    sampling: TokenSampling,
    generators: Generators,
    *,
    prefix: Int[Tensor, "b p"] | None = None,
    callback: TokensCallback | None = None,
    window: int = 16,
) -> SpeculativeTokens:
    """Draw sequences from the law of `sample_autoregressive`, in fewer passes where drafts are often right.

    Each pass reads at most `window` drafts a sequence, and at least one token becomes final. A sequence draws the same
    whatever its batch, though the batch goes on until the last is done. The laws of the window are held in float64: b *
    window * v numbers, a few times. Raises VidgenError as `sample_autoregressive`, and for a window below 1.

    Args:
        model: The causal model, which is rewound after each pass to what is final in all sequences: a cache that rolls
            has to hold as much of the past as sequences of a batch may differ in length.
        num_tokens: The length of the sequences that come out, prefix included.
        sampling: Temperature and filters, of drafts and laws alike.
        generators: One a sample (on the CPU), so that no sample depends on its batch, or one for all.
        prefix: Tokens that are given.
        callback: Called as (number of tokens final in all sequences, tokens (b, num_tokens)) after each pass; those
            beyond are drafts in some.
        window: How many drafts of each sequence are read at once.
    """
    if window < 1:
        raise VidgenError(f"window is {window}; a pass reads 1 draft or more")
    logits, given = read_prefix(model, prefix, num_tokens)
    batch, first = given.shape
    passes, passes_each = 1, torch.ones(batch, dtype=torch.int64, device=given.device)
    if first == num_tokens:
        return SpeculativeTokens(given.clone(), passes, passes_each)
    # drafts beyond the end are drawn and never looked at, so that every sequence has a whole window
    tokens = torch.cat([given, given.new_zeros(batch, num_tokens - first + window + 1)], dim=1)
    law = token_law(logits, sampling, seen_tokens(given, logits.shape[-1])).exp()
    drafted = law[:, None].expand(-1, window + 1, -1)  # the first pass knows no better law of the tokens behind
    tokens[:, first : first + window + 1] = inverse_cdf(
        drafted, draw_uniform(batch, window + 1, generators).to(law.device)
    )
    drafted = drafted[:, 1:]
    final = torch.full((batch,), first + 1, device=given.device)
    while bool((active := final < num_tokens).any()):
        if callback is not None:
            callback(int(final.min()), tokens[:, :num_tokens])
        laws = read_window(model, tokens, final, active, num_tokens, window, sampling)
        uniforms = draw_uniform(batch, 3 * window + 1, generators, active).to(final.device)
        tokens, stood = settle_drafts(laws, drafted, tokens, final, uniforms[:, : 2 * window + 1])
        tokens, drafted = draft_behind(laws, tokens, final, stood, uniforms[:, 2 * window + 1 :])
        final = (final + stood + 1).clamp(max=num_tokens)
        passes_each += active
        passes += 1
    if callback is not None:
        callback(num_tokens, tokens[:, :num_tokens])
    return SpeculativeTokens(tokens[:, :num_tokens].clone(), passes, passes_each)


def read_window(
    model: SequenceModel,
    tokens: Int[Tensor, "b m"],
    final: Int[Tensor, " b"],
    active: Bool[Tensor, " b"],
    num_tokens: int,
    window: int,
    sampling: TokenSampling,
) -> Float[Tensor, "b window_plus_1 v"]:
    """Return p of the first token of each sequence that is not final, and of the `window` after it, given the drafts.

    The model reads from the sequence that is least far to the window of the one that is farthest. Places beyond the end
    have the law of the last.
    """
    low = int(final[active].min())
    high = min(int(final[active].max()) + window, num_tokens - 1)
    model.rewind(low - 1)  # the logits after token low - 1 are wanted again
    logits = model.extend(tokens[:, low - 1 : high])
    places = (final[:, None] + torch.arange(window + 1, device=final.device)).clamp(max=high)
    logits = logits.gather(1, (places - low)[..., None].expand(-1, -1, logits.shape[-1]))
    seen = None if sampling.repetition_penalty == 1.0 else seen_before(tokens, places, logits.shape[-1])
    return token_law(logits, sampling, seen).exp()


def seen_before(tokens: Int[Tensor, "b m"], places: Int[Tensor, "b k"], vocabulary: int) -> Bool[Tensor, "b k v"]:
    """Return which tokens each sequence holds before each of the places."""
    index = torch.arange(tokens.shape[1], device=tokens.device)
    columns = [torch.where(index < place[:, None], tokens, MASK) for place in places.unbind(1)]
    return torch.stack([seen_tokens(column, vocabulary) for column in columns], dim=1)


def settle_drafts(
    laws: Float[Tensor, "b window_plus_1 v"],
    drafted: Float[Tensor, "b window v"],
    tokens: Int[Tensor, "b m"],
    final: Int[Tensor, " b"],
    uniforms: Float[Tensor, "b two_windows_plus_1"],
) -> tuple[Int[Tensor, "b m"], Int[Tensor, " b"]]:
    """Return the sequences with every token of the window drawn from its p by the test of its draft, and one behind.

    And how many drafts stood before the first that did not.
    """
    window = drafted.shape[1]
    places = final[:, None] + torch.arange(window + 1, device=final.device)
    drafts = tokens.gather(1, places[:, :-1])
    p, q = (law.gather(2, drafts[..., None])[..., 0] for law in (laws[:, :-1], drafted))
    stands = uniforms[:, :window] * q < p
    weights = laws.clone()
    weights[:, :-1] = (laws[:, :-1] - drafted).clamp(min=0.0)
    # p = q rejects nothing; where rounding did, what is left of p - q is rounding too
    weights = torch.where(weights.sum(-1, keepdim=True) > 0.0, weights, laws)
    drawn = inverse_cdf(weights, uniforms[:, window:])
    drawn[:, :-1] = torch.where(stands, drafts, drawn[:, :-1])
    return tokens.scatter(1, places, drawn), stands.long().cumprod(1).sum(1)


def draft_behind(
    laws: Float[Tensor, "b window_plus_1 v"],
    tokens: Int[Tensor, "b m"],
    final: Int[Tensor, " b"],
    stood: Int[Tensor, " b"],
    uniforms: Float[Tensor, "b window"],
) -> tuple[Int[Tensor, "b m"], Float[Tensor, "b window v"]]:
    """Return the sequences with drafts where the window moves on to, and the laws q of all drafts in it.

    A place that this pass has read keeps what it drew there; those behind are drawn from the law of the last it read.
    """
    window = uniforms.shape[1]
    index = stood[:, None] + 1 + torch.arange(window, device=final.device)  # in the window that was read
    drafted = laws.gather(1, index.clamp(max=window)[..., None].expand(-1, -1, laws.shape[-1]))
    places = (final[:, None] + index).clamp(max=tokens.shape[1] - 1)
    drafts = torch.where(index > window, inverse_cdf(drafted, uniforms), tokens.gather(1, places))
    return tokens.scatter(1, places, drafts), drafted
