"""Tokens of clips by a prior: the decoder that its order calls for, with guidance, after tokens that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vidgen.diffusion.noise import sample_generator
from vidgen.interfaces import MaskedLogits, SequenceModel, TokenDraws
from vidgen.models.attention_patterns import Grid
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.frame_cache import CachedFrames
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import Tokens, blank_tokens
from vidgen.models.text.encoders import TextEncoding
from vidgen.samplers.autoregressive.continuous import pair_conditions, pair_masked
from vidgen.samplers.autoregressive.decode import sample_autoregressive
from vidgen.samplers.autoregressive.guidance import GuidedSequenceModel, guide_masked, guided_logits
from vidgen.samplers.autoregressive.uncached import UncachedModel
from vidgen.samplers.masked.maskgit import MaskGITConfig, sample_maskgit

Callback = Callable[[int, Tensor], None]


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """What tokens are asked for.

    Args:
        grid: Cells (t, h, w) of the clips.
        text: What the prior reads of the prompts, and `negative` of what guidance leads away from; None without text.
        scale: Of guidance.
        sampling: How tokens are drawn.
        generators: One a clip.
        steps: Of a prior that predicts masked tokens.
        prefix: The tokens that the clips begin with.
        callback: Called with the number of tokens, steps or frames that are done, and the tokens so far.
    """

    grid: Grid
    text: TextEncoding | None
    negative: TextEncoding | None
    scale: float
    sampling: TokenDraws
    generators: Sequence[torch.Generator]
    steps: int
    prefix: Tokens
    callback: Callback | None = None

    @property
    def is_guided(self) -> bool:
        """Whether there is something to lead away from."""
        return self.scale != 1.0 and self.negative is not None


def decode_tokens(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Return the tokens of clips, those of the prefix first."""
    return DECODERS[prior.config.order](prior, request)


def decode_causal(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Draw token after token; of order "random" in the order of a causal prior, without a cache."""
    t, h, w = request.grid
    count = t * h * w * prior.config.codes

    def model(text: TextEncoding | None) -> SequenceModel:
        batch = len(request.prefix)
        if prior.config.order == "causal" and prior.config.attention == "full":
            return CachedPrior(prior, (h, w), batch, text)
        logits = partial(next_logits, prior, request.grid, text)
        return UncachedModel(logits, batch, request.prefix.device, prior.config.channels)

    sequence = model(request.text)
    if request.is_guided:
        combine = pair_conditions if prior.config.channels else guided_logits
        sequence = GuidedSequenceModel(sequence, model(request.negative), request.scale, count, combine=combine)
    settings = {"prefix": request.prefix, "callback": request.callback}
    return sample_autoregressive(sequence, count, request.sampling, request.generators, **settings)


def next_logits(prior: TokenPrior, grid: Grid, text: TextEncoding | None, tokens: Tokens) -> Tensor:
    """Return the logits of the first token and of the one after each of the first n tokens of a clip."""
    t, h, w = grid
    count = t * h * w * prior.config.codes
    filled = torch.cat([tokens, tokens.new_zeros(len(tokens), count - tokens.shape[1], *tokens.shape[2:])], dim=1)
    return prior(filled, grid, text)[:, : tokens.shape[1] + 1]


def decode_masked(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Fill in all unknown tokens of a clip at once, step by step."""
    t, h, w = request.grid
    known = request.prefix
    tokens = blank_tokens(known, t * h * w * prior.config.codes)
    tokens[:, : known.shape[1]] = known
    models = [partial(prior, grid=request.grid, text=text) for text in (request.text, request.negative)]
    return fill_in(models[0], models[1], tokens, request)


def decode_frames(prior: TokenPrior, request: TokenRequest) -> Tokens:
    """Fill in the tokens of one frame after the other."""
    t, h, w = request.grid
    size = h * w * prior.config.codes
    models = [CachedFrames(prior, (h, w), request.text)]
    models += [CachedFrames(prior, (h, w), request.negative)] if request.is_guided else []
    frames = []
    for number in range(t):
        tokens = blank_tokens(request.prefix, size)
        known = request.prefix[:, number * size : (number + 1) * size]
        tokens[:, : known.shape[1]] = known
        frames.append(fill_in(models[0], models[-1], tokens, request))
        for model in models:
            model.extend(frames[-1])
    return torch.cat(frames, dim=1)


def fill_in(cond: MaskedLogits, uncond: MaskedLogits, tokens: Tokens, request: TokenRequest) -> Tokens:
    """Return tokens without masks, by MaskGIT; continuous ones, which have no confidence, in a random order (MAR)."""
    is_continuous = tokens.is_floating_point()
    logits = cond
    if request.is_guided:
        logits = pair_masked(cond, uncond) if is_continuous else guide_masked(cond, uncond, request.scale)
    config = MaskGITConfig(num_steps=request.steps, order="random" if is_continuous else "confidence")
    settings = {"config": config, "callback": request.callback}
    return sample_maskgit(logits, tokens, request.sampling, request.generators, **settings)


def generators_of(seed: int, count: int) -> list[torch.Generator]:
    """Return the generators of the clips of a seed, one each."""
    return [sample_generator(seed, number) for number in range(count)]


DECODERS: dict[str, Callable[[TokenPrior, TokenRequest], Tokens]] = {
    "causal": decode_causal,
    "random": decode_causal,
    "masked": decode_masked,
    "frames": decode_frames,
}
