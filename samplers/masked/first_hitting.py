"""The first-hitting sampler of masked diffusion: time jumps to where the next token is unmasked, exactly.

Zheng et al. 2024 (arXiv 2409.02908). With m tokens masked at a time when the share that is masked is s, the
next of them is unmasked where the share is s u^(1/m), u uniform on (0, 1], and each is equally probable to be it: no
step in time, so none of its error, and one pass of the network a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.interfaces import MaskedLogits, TokenDraws
from vidgen.models.priors.token_values import Tokens, is_unknown
from vidgen.samplers.autoregressive.categorical import draw_uniform
from vidgen.samplers.masked.revealing import check_sequences, reveal
from vidgen.samplers.masked.schedules import find_schedule


@dataclass(frozen=True)
class FirstHitting:
    """Sequences, and the time from 1 (all masked) to 0 (none) at which each token was unmasked; 1 of known ones."""

    tokens: Tokens
    times: Float[Tensor, "b n"]


@torch.no_grad()
def sample_first_hitting(
    logits: MaskedLogits,
    tokens: Tokens,
    sampling: TokenDraws,
    generators: Generators,
    *,
    schedule: str = "linear",
    callback: Callable[[int, Tensor], None] | None = None,
) -> FirstHitting:
    """Draw the unknown tokens of each sequence as masked diffusion in continuous time does; the known ones stay.

    Its law is the model's own, that of `sample_any_order`; the schedule moves the times alone. Raises VidgenError for
    tokens that are none, an unknown schedule, and logits of NaN.

    Args:
        logits: The model, which does not ask for the time (the ideal one has no use for it).
        tokens: Sequences in which unknown tokens are MASK; continuous ones NaN.
        sampling: Temperature and filters, or the head of continuous tokens.
        generators: One a sample (on the CPU), so that no sample depends on its batch, or one for all.
        schedule: The share that is masked at progress 1 - t, of SCHEDULES.
        callback: Called as (number of tokens drawn, tokens (b, n)) after each step.
    """
    progress = find_schedule(schedule).progress
    tokens = check_sequences(tokens)
    unknown = is_unknown(tokens).sum(1)
    share = torch.ones(len(tokens), dtype=torch.float64, device=tokens.device)
    times = torch.ones(tokens.shape[:2], dtype=torch.float64, device=tokens.device)
    for step in range(int(unknown.max()) if len(unknown) else 0):
        masked = is_unknown(tokens)
        left = masked.sum(1)
        active = left > 0
        jump, place = draw_uniform(len(tokens), 2, generators, active).to(tokens.device).unbind(1)
        noise = sampling.draw_noise(len(tokens), 1, generators, active)
        share = share * (1.0 - jump) ** (1.0 / left.clamp(min=1))
        turn = (place * left).long().clamp(max=left - 1)  # which of those that are left, all alike
        chosen = masked & (masked.cumsum(1) - 1 == turn[:, None])
        tokens, _ = reveal(logits, tokens, chosen, sampling, noise.expand(-1, tokens.shape[1], *noise.shape[2:]))
        times = torch.where(chosen, 1.0 - progress(share)[:, None], times)
        if callback is not None:
            callback(step + 1, tokens)
    return FirstHitting(tokens, times)
