"""How probable a prior finds tokens: exactly, token by token, or by a bound, which is called one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import Tokens, check_ids, hide_tokens, is_unknown

# What is lost at each token (b, n), of a prior's outputs (b, n, v) and the tokens.
Measure = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Nats of clips: `nats` of each, `exact` or an upper bound in expectation; the `standard_error` of a mean over
    draws, 0 where there are none; `by_token` where there is one order for all, else None."""

    nats: Float[Tensor, " b"]
    exact: bool
    standard_error: Float[Tensor, " b"]
    by_token: Float[Tensor, "b n"] | None = None

    def bits_per_token(self, tokens: int) -> float:
        """Return the mean over clips of `tokens` tokens each."""
        return self.nats.mean().item() / math.log(2) / tokens

    def perplexity_by_frame(self, frames: int) -> Float[Tensor, " t"]:
        """Return exp of the mean nats of a token, frame by frame. Raises ValueError without `by_token`."""
        return self._by_place(frames).mean(dim=(0, 2)).exp()

    def perplexity_by_position(self, frames: int) -> Float[Tensor, " n"]:
        """Return the same of each token of a frame, over frames and clips."""
        return self._by_place(frames).mean(dim=(0, 1)).exp()

    def _by_place(self, frames: int) -> Float[Tensor, "b t n"]:
        if self.by_token is None:
            raise ValueError("a bound over random masks has no perplexity by frame")
        return self.by_token.reshape(len(self.by_token), frames, -1)


def join_likelihoods(parts: Sequence[Likelihood]) -> Likelihood:
    """Return the likelihood of all clips of parts that one prior has measured."""
    places = [part.by_token for part in parts if part.by_token is not None]
    return Likelihood(
        nats=torch.cat([part.nats for part in parts]),
        exact=all(part.exact for part in parts),
        standard_error=torch.cat([part.standard_error for part in parts]),
        by_token=torch.cat(places) if places else None,
    )


def token_nats(logits: Float[Tensor, "b n v"], tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """Return -log p of each token."""
    return -logits.log_softmax(dim=-1).gather(-1, tokens.clamp(min=0)[..., None])[..., 0]


def draw_orders(b: int, n: int, generator: torch.Generator) -> Int[Tensor, "b n"]:
    """Draw an order of n tokens for each clip, all equally probable."""
    return torch.rand(b, n, generator=generator, dtype=torch.float64).argsort(dim=1)


def draw_masks(tokens: Tokens, counts: Int[Tensor, " b"], generator: torch.Generator) -> Tokens:
    """Return tokens of which `counts` of each clip, drawn at random, are unknown."""
    ranks = draw_orders(*tokens.shape[:2], generator).argsort(dim=1).to(tokens.device)
    return hide_tokens(tokens, ranks < counts.to(tokens.device)[:, None])


def masked_nats(
    prior: TokenPrior,
    tokens: Tokens,
    grid: Grid,
    generator: torch.Generator,
    measure: Measure = token_nats,
    *,
    given: int = 0,
    **conditions: Any,
) -> Float[Tensor, " b"]:
    """Draw an unbiased estimate of the mean over orders of -log p(tokens in that order), an upper bound of -log of the
    mean law (Uria et al. 2014; Ou et al. 2024, eq. 3.9).

    Of k masked tokens, k uniform from 1 to n, it is n / k times their nats: the bound of masked diffusion. Of order
    "frames" each frame is masked on its own. Another `measure` takes the nats' place. The first `given` tokens are
    known.
    """
    b, n = tokens.shape[:2]
    if prior.config.order == "masked":
        counts = torch.randint(1, n - given + 1, (b,), generator=generator)
        shown = torch.cat([tokens[:, :given], draw_masks(tokens[:, given:], counts, generator)], dim=1)
        weight = ((n - given) / counts)[:, None].to(tokens.device)
        logits = prior(shown, grid, **conditions)
    else:
        frames = tokens.reshape(b * grid[0], n // grid[0], *tokens.shape[2:])
        counts = torch.randint(1, frames.shape[1] + 1, (len(frames),), generator=generator)
        shown = draw_masks(frames, counts, generator).reshape(tokens.shape)
        weight = (frames.shape[1] / counts).to(tokens.device).repeat_interleave(frames.shape[1]).reshape(b, n)
        logits = prior(shown, grid, clean=tokens, **conditions)
    return (weight * measure(logits, tokens) * is_unknown(shown)).sum(dim=1)


@torch.inference_mode()
def likelihood(
    prior: TokenPrior,
    tokens: Int[Tensor, "b n"],
    grid: Grid,
    *,
    draws: int = 16,
    seed: int = 0,
    given: int = 0,
    **conditions: Any,
) -> Likelihood:
    """Return how probable the prior finds clips, after the first `given` tokens: those of words.

    Exact of order "causal"; of "random" the mean over `draws` orders, each of which is an exact law; else a bound, the
    mean over `draws` draws of `masked_nats`. Raises VidgenError for a prior over continuous tokens, and for tokens that
    are not known or not of its codebooks.
    """
    check_likelihood(prior)
    check_ids(tokens, prior.config.books, masks=False)
    if prior.config.order == "causal":
        nats = token_nats(prior(tokens, grid, **conditions), tokens)[:, given:]
        return Likelihood(nats=nats.sum(1), exact=True, standard_error=torch.zeros(len(nats)), by_token=nats)
    generator = torch.Generator().manual_seed(seed)
    values = torch.stack([draw_nats(prior, tokens, grid, generator, given=given, **conditions) for _ in range(draws)])
    error = values.std(dim=0) / math.sqrt(draws) if draws > 1 else torch.full_like(values[0], math.inf)
    return Likelihood(nats=values.mean(0), exact=prior.config.order == "random", standard_error=error)


def draw_nats(
    prior: TokenPrior,
    tokens: Tokens,
    grid: Grid,
    generator: torch.Generator,
    measure: Measure = token_nats,
    *,
    given: int = 0,
    **conditions: Any,
) -> Float[Tensor, " b"]:
    """Return the nats of clips: exact, in an order that is drawn, or under masks that are drawn, as the prior's order
    has it. Another `measure` takes their place: of continuous tokens `flow_losses`. The first `given` tokens are known,
    and come first in every order."""
    if prior.config.order == "causal":
        return measure(prior(tokens, grid, **conditions), tokens)[:, given:].sum(1)
    if prior.config.order == "random":
        first = torch.arange(given).expand(len(tokens), -1)
        order = torch.cat([first, given + draw_orders(len(tokens), tokens.shape[1] - given, generator)], dim=1)
        return measure(prior(tokens, grid, order=order.to(tokens.device), **conditions), tokens)[:, given:].sum(1)
    return masked_nats(prior, tokens, grid, generator, measure, given=given, **conditions)


def check_likelihood(prior: TokenPrior) -> None:
    """Raise VidgenError for a prior whose likelihood is not known."""
    if prior.config.channels:
        raise VidgenError(
            "a prior over continuous tokens has no exact likelihood: its head makes draws, and no densities; measure "
            "its clips, or take a prior over a discrete tokenizer's indices"
        )
