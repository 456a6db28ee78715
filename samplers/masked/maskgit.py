"""MaskGIT: all unknown tokens are drawn at once, some are kept, and so on until all are (Chang et al. 2022, sec. 3.2).

The tokens that one step keeps are drawn independently of each other, so that the law of what comes out is the model's
only with one token a step in an order that does not look at the draws (`sample_any_order`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.bounds import Choice, InferenceSteps, Range, check_fields
from vidgen.diffusion.noise import Generators
from vidgen.errors import VidgenError
from vidgen.interfaces import MaskedLogits, TokenDraws
from vidgen.models.priors.token_values import Tokens, choose_tokens, hide_tokens, is_unknown
from vidgen.samplers.autoregressive.categorical import draw_uniform
from vidgen.samplers.masked.orders import Grid, halton_ranks, random_ranks
from vidgen.samplers.masked.revealing import check_sequences, largest, reveal
from vidgen.samplers.masked.schedules import SCHEDULES, reveal_counts

ORDERS = ("confidence", "random", "halton")
NUM_STEPS = 12
SMALLEST = 2.0**-54  # half of the step between uniform numbers: Gumbel noise stays finite


@dataclass(frozen=True, kw_only=True)
class MaskGITConfig:
    """How MaskGIT goes about it.

    `num_steps` of None are 12, or as many as a pipeline that takes these settings makes of it. `order` says which
    tokens a step keeps: those that the model was most confident in ("confidence"), those whose turn it is in a random
    order, or in Halton's (Besnier et al. 2025), which needs the grid. `choice_temperature` is that of the Gumbel noise
    on confidence at the first step, from where it falls to 0 at the last (4.5 is that of the published models).
    `revised_share` of the tokens that earlier steps have kept are masked again after each step but the last, those of
    least confidence when they were drawn, and are drawn anew (as in ReMDM by confidence, Wang et al. 2025, arXiv
    2503.00307); 0 keeps what is kept. Raises VidgenError for what is out of bounds.
    """

    num_steps: InferenceSteps | None = None
    schedule: Annotated[str, Choice(SCHEDULES)] = "cosine"
    order: Annotated[str, Choice(ORDERS)] = "confidence"
    choice_temperature: Annotated[float, Range(0.0, 1000.0)] = 4.5
    revised_share: Annotated[float, Range(0.0, 1.0, below=True)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


@torch.no_grad()
def sample_maskgit(
    logits: MaskedLogits,
    tokens: Tokens,
    sampling: TokenDraws,
    generators: Generators,
    *,
    config: MaskGITConfig | None = None,
    grid: Grid | None = None,
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tokens:
    """Draw the unknown tokens of each sequence in `config.num_steps` steps; the known ones stay as they are.

    A sequence of fewer unknown tokens than steps has a step for each. Raises VidgenError for tokens that are none,
    logits of NaN, the Halton order without its grid, and an order by confidence of continuous tokens.

    Args:
        logits: The model.
        tokens: Sequences in which unknown tokens are MASK, continuous ones NaN: all, or those of an inpainting.
        sampling: Temperature and filters of the draws, or the head of continuous tokens; confidence is of the model's
            own law.
        generators: One a sample (on the CPU), so that no sample depends on its batch, or one for all.
        config: Steps, schedule, order, choice temperature, revision; None has the defaults.
        grid: Frames, height and width of a sequence, for the Halton order.
        callback: Called as (number of steps done, tokens (b, n)) after each step.
    """
    config = config or MaskGITConfig()
    tokens = check_sequences(tokens)
    check_confidence(tokens, config)
    given = ~is_unknown(tokens)
    counts, steps = step_counts(~given, config)
    ranks = None
    if config.order == "halton":
        ranks = halton_ranks(tokens, grid)
    elif config.order == "random":
        ranks = random_ranks(tokens, generators, steps > 0)
    confidence = torch.zeros(tokens.shape[:2], dtype=torch.float64, device=tokens.device)  # of what is kept, as drawn
    reopened = torch.zeros_like(steps)
    for step in range(counts.shape[1]):
        masked = is_unknown(tokens)
        keep_count = counts[:, step] + reopened
        active = step < steps
        draws = sampling.draw_noise(*tokens.shape[:2], generators, active)
        if ranks is not None:
            kept = largest(-ranks, masked, keep_count)
            drawn, log_probs = reveal(logits, tokens, kept, sampling, draws)
        else:
            drawn, log_probs = reveal(logits, tokens, masked, sampling, draws)
            noise = gumbel(draw_uniform(*tokens.shape, generators, active)).to(tokens.device)
            left = 1.0 - (step + 1) / steps.clamp(min=step + 1).double()
            kept = largest(log_probs + config.choice_temperature * left[:, None] * noise, masked, keep_count)
        tokens = choose_tokens(kept, drawn, tokens)
        confidence = torch.where(kept, log_probs, confidence)
        if config.revised_share > 0.0:
            earlier = ~masked & ~given
            reopened = (config.revised_share * earlier.sum(1) * (step + 1 < steps)).long()
            tokens = hide_tokens(tokens, largest(-confidence, earlier, reopened))
        if callback is not None:
            callback(step + 1, tokens)
    return tokens


def check_confidence(tokens: Tokens, config: MaskGITConfig) -> None:
    """Raise VidgenError where a decoder would go by the confidence of continuous tokens."""
    if tokens.is_floating_point() and (config.order == "confidence" or config.revised_share > 0.0):
        raise VidgenError(
            f"continuous tokens have no confidence, which order {config.order!r} with revised_share "
            f"{config.revised_share:g} goes by; take order random or halton, and revise none"
        )


def step_counts(masked: Bool[Tensor, "b n"], config: MaskGITConfig) -> tuple[Int[Tensor, "b steps"], Int[Tensor, " b"]]:
    """Return how many tokens each step keeps for good in each sequence, 0 after its last, and its number of steps."""
    totals = masked.sum(1).tolist()
    num_steps = NUM_STEPS if config.num_steps is None else config.num_steps
    by_total = {total: reveal_counts(total, num_steps, config.schedule) for total in set(totals)}
    steps = torch.tensor([len(by_total[total]) for total in totals], device=masked.device)
    counts = torch.zeros(len(totals), max(map(len, by_total.values()), default=0), dtype=torch.int64)
    for row, total in enumerate(totals):
        counts[row, : len(by_total[total])] = torch.tensor(by_total[total], dtype=torch.int64)
    return counts.to(masked.device), steps


def gumbel(uniforms: Float[Tensor, ...]) -> Float[Tensor, ...]:
    """Return standard Gumbel noise of uniform numbers of [0, 1) in float64, from -3.6 to 37: never infinite."""
    return -torch.log(-torch.log1p(-uniforms.clamp(min=SMALLEST)))
