"""Tokens of clips by a prior: the decoder that its order calls for, with guidance, after tokens that are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import MaskedLogits, SequenceModel, TokenDraws
from vidgen.models.attention_patterns import Grid
from vidgen.models.priors.any_order import AnyOrderLogits, Turns
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.frame_cache import CachedFrames
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import Tokens, blank_tokens, keep_to_books
from vidgen.models.text.encoders import TextEncoding
from vidgen.samplers.autoregressive.continuous import pair_conditions, pair_masked
from vidgen.samplers.autoregressive.groups import far_apart_groups, row_groups
from vidgen.samplers.autoregressive.guidance import (
    ALWAYS,
    GuidedSequenceModel,
    Interval,
    check_guidance,
    guide_masked,
    guided_logits,
)
from vidgen.samplers.autoregressive.uncached import UncachedModel
from vidgen.samplers.masked.maskgit import MaskGITConfig
from vidgen.samplers.token_decoders import TOKEN_DECODERS

Callback = Callable[[int, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """What tokens are asked for.

    Args:
        grid: Cells (t, h, w) of the sequences: the clips, and the frames of words before them.
        usual_frames: Of the grid of clips as in training: longer ones are made in a window of as many.
        text: What the prior reads of the prompts, and `negative` of what guidance leads away from; None without text.
        scale: Of guidance.
        sampling: How tokens are drawn.
        generators: One a clip.
        steps: Of a prior that predicts masked tokens.
        interval: The share of tokens that are done, from and to which guidance acts; None is always.
        masking: How the decoder maskgit goes about it, its steps aside; None is as usual.
        decoder: One of `DECODERS` of the prior's order; empty is the first of them.
        prefix: The tokens that the sequences begin with, all words among them.
        words: Tokens of the caption, of a prior that has some.
        callback: Called as (step, tokens so far), after each of the `count_steps`.
        conditions: What the prior is told beside the text, as `TokenPrior.forward` names it.
    """

    grid: Grid
    usual_frames: int
    text: TextEncoding | None
    negative: TextEncoding | None
    scale: float
    sampling: TokenDraws
    generators: Sequence[torch.Generator]
    steps: int
    decoder: str
    prefix: Tokens
    interval: Interval | None = None
    masking: MaskGITConfig | None = None
    callback: Callback | None = None
    words: int = 0
    conditions: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def is_guided(self) -> bool:
        """Whether there is something to lead away from."""
        return self.scale != 1.0 and self.negative is not None

    def report(self, first: int = 0) -> Callback | None:
        """Return what is called with the number of steps done after the `first`, and the tokens so far."""
        if self.callback is None:
            return None
        return lambda done, tokens: self.callback(first + done - 1, tokens)


def decode_tokens(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Return the tokens of clips, those of the prefix first.

    Raises VidgenError for a clip that is too long for the prior, and for settings that its decoder has no use for.
    """
    config = prior.config
    request = replace(request, decoder=find_decoder(config, request.decoder))
    check_settings(config, request)
    t, h, w = request.grid
    frames = t - request.words // (h * w * config.codes)
    if frames > request.usual_frames and not config.window:
        if config.order not in ("causal", "frames") or config.attention != "full" or config.words:
            words = " and words among its tokens" if config.words else ""
            raise VidgenError(
                f"a clip of {frames} latent frames is longer than this prior's {request.usual_frames}, and of "
                f"order {config.order} with {config.attention} attention{words} it knows no window; ask for a shorter "
                "clip"
            )
        prior = prior.with_window(request.usual_frames)
    return LOOPS[config.order](prior, request)


def check_settings(config: TokenPriorConfig, request: TokenRequest) -> None:
    """Raise VidgenError for an interval of guidance, or settings of masks, that say nothing to the decoder."""
    if request.interval is not None:
        if config.channels:
            raise VidgenError("guidance_interval is for codes, and this prior's tokens are continuous; leave it out")
        check_guidance(request.scale, request.interval)
    if request.masking is None:
        return
    if request.decoder != "maskgit":
        raise VidgenError(
            f"masking is for the decoder maskgit, and this prior of order {config.order} draws by {request.decoder}; "
            "leave it out"
        )
    if request.masking.num_steps is not None:
        raise VidgenError(
            f"masking has num_steps={request.masking.num_steps}, and steps of a call are num_inference_steps; say them "
            "there"
        )


def list_decoders(config: TokenPriorConfig) -> list[str]:
    """Return the names of the decoders of such priors, the usual one first. Speculative Jacobi accepts codes by their
    probabilities, which continuous tokens have none of."""
    return [name for name in DECODERS[config.order] if not config.channels or name != "speculative_jacobi"]


def find_decoder(config: TokenPriorConfig, name: str) -> str:
    """Return the name of a decoder of such priors, the usual one for "". VidgenError for one of others."""
    names = list_decoders(config)
    if name and name not in names:
        kind = f"a prior of order {config.order}{' over latents' if config.channels else ''}"
        raise VidgenError(f"decoder {name!r} is not for {kind}; choose one of {', '.join(names)}")
    return name or names[0]


def count_steps(prior: TokenPrior, grid: Grid, steps: int, decoder: str = "") -> int:
    """Return the steps of a clip, of which `steps` are MaskGIT's. Speculative Jacobi's are at most as many."""
    t, h, w = grid
    parts = t if prior.config.order == "frames" else 1
    codes, name = prior.config.codes, find_decoder(prior.config, decoder)
    if name == "maskgit":
        return parts * min(steps, t * h * w * codes // parts)
    if name in GROUPS:
        return parts * codes * int(GROUPS[name]((t // parts, h, w)).max() + 1)
    return t * h * w * codes + (prior.config.words if name in CAUSAL else 0)


def decode_causal(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Draw token after token, of order "random" too; only sparse attention keeps no cache."""
    t, h, w = request.grid
    count = t * h * w * prior.config.codes

    def model(text: TextEncoding | None) -> SequenceModel:
        batch = len(request.prefix)
        if prior.config.attention == "full":
            return CachedPrior(prior, (h, w), batch, text, **request.conditions)
        logits = partial(next_logits, prior, request.grid, text, request.conditions)
        return UncachedModel(logits, batch, request.prefix.device, prior.config.channels)

    sequence = model(request.text)
    if request.is_guided:
        combine = pair_conditions if prior.config.channels else guided_logits
        settings = {"interval": request.interval or ALWAYS, "combine": combine}
        sequence = GuidedSequenceModel(sequence, model(request.negative), request.scale, count, **settings)
    if request.decoder == "speculative_jacobi" and prior.config.window and t > prior.config.window:
        raise VidgenError(
            "speculative_jacobi goes back in the clip, which a window that rolls on does not hold; choose "
            f"autoregressive, or a clip of {prior.config.window} latent frames at most"
        )
    settings = {"prefix": request.prefix, "callback": request.report()}
    return TOKEN_DECODERS[request.decoder](sequence, count, request.sampling, request.generators, **settings)


def next_logits(
    prior: TokenPrior, grid: Grid, text: TextEncoding | None, conditions: Mapping[str, Tensor], tokens: Tokens
) -> Tensor:
    """Return the logits of the first token and of the one after each of the first n tokens of a clip."""
    t, h, w = grid
    count = t * h * w * prior.config.codes
    tokens = keep_to_books(tokens, 0, prior.config.books)
    filled = torch.cat([tokens, tokens.new_zeros(len(tokens), count - tokens.shape[1], *tokens.shape[2:])], dim=1)
    return prior(filled, grid, text, **conditions)[:, : tokens.shape[1] + 1]


def decode_masked(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Fill in all unknown tokens of a clip at once, step by step."""
    t, h, w = request.grid
    known = request.prefix
    tokens = blank_tokens(known, t * h * w * prior.config.codes)
    tokens[:, : known.shape[1]] = known

    turns = Turns()

    def model(text: TextEncoding | None) -> MaskedLogits:
        if prior.config.order == "random":
            return AnyOrderLogits(prior, request.grid, text, turns=turns, **request.conditions)
        return partial(prior, grid=request.grid, text=text, **request.conditions)

    cond = model(request.text)
    return fill_in(cond, model(request.negative) if request.is_guided else cond, tokens, request, request.grid)


def decode_any_order(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Draw token after token, or as of a masked prior."""
    return (decode_causal if request.decoder in CAUSAL else decode_masked)(prior, request)


def decode_frames(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Fill in the tokens of one frame after the other."""
    t, h, w = request.grid
    size = h * w * prior.config.codes
    texts = (request.text, request.negative) if request.is_guided else (request.text,)
    models = [CachedFrames(prior, (h, w), text, **request.conditions) for text in texts]
    frames = []
    for number in range(t):
        tokens = blank_tokens(request.prefix, size)
        known = request.prefix[:, number * size : (number + 1) * size]
        tokens[:, : known.shape[1]] = known
        first = number * count_steps(prior, request.grid, request.steps, request.decoder) // t
        frames.append(fill_in(models[0], models[-1], tokens, request, (1, h, w), first))
        for model in models:
            model.extend(frames[-1])
    return torch.cat(frames, dim=1)


def fill_in(
    cond: MaskedLogits, uncond: MaskedLogits, tokens: Tokens, request: TokenRequest, grid: Grid, first: int = 0
) -> Tokens:
    """Return tokens of cells `grid` without masks; `first` steps of the clip are done before. Continuous ones have no
    confidence: MaskGIT draws them in a random order (MAR)."""
    is_continuous = tokens.is_floating_point()
    logits = cond
    if request.is_guided:
        guide = partial(guide_masked, scale=request.scale, interval=request.interval or ALWAYS)
        logits = pair_masked(cond, uncond) if is_continuous else guide(cond, uncond)
    settings: dict[str, Any] = {"callback": request.report(first)}
    name, codes = request.decoder, tokens.shape[1] // (grid[0] * grid[1] * grid[2])
    if name == "maskgit":
        masking = request.masking or MaskGITConfig(order="random" if is_continuous else "confidence")
        settings["config"] = replace(masking, num_steps=request.steps)
        settings["grid"] = (grid[0], grid[1], grid[2] * codes)  # codes of a cell stand side by side
    if name in GROUPS:  # the codes of a cell are drawn one after the other; words, which are known, are in no group
        clip = (grid[0] - request.words // (grid[1] * grid[2] * codes), *grid[1:])
        groups = (GROUPS[name](clip)[:, None] * codes + torch.arange(codes)).flatten()
        settings["groups"] = torch.cat([groups.new_zeros(request.words), groups])
        name = "groups"
    return TOKEN_DECODERS[name](logits, tokens, request.sampling, request.generators, **settings)


CAUSAL = ("autoregressive", "speculative_jacobi")
GROUPS: dict[str, Callable[[Grid], Int[Tensor, " n"]]] = {"rows": row_groups, "far_apart": far_apart_groups}
MASKED = ("maskgit", "any_order", "first_hitting", *GROUPS)
DECODERS = {"causal": CAUSAL, "random": (*CAUSAL, *MASKED), "masked": MASKED, "frames": MASKED}
LOOPS: dict[str, Callable[[TokenPrior, TokenRequest], Tokens]] = {
    "causal": decode_causal,
    "random": decode_any_order,
    "masked": decode_masked,
    "frames": decode_frames,
}
