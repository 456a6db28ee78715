"""A caption among a prior's tokens: its bytes, and ends up to the last of their places; a clip's caption in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.diffusion.noise import Generators, sample_generator
from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid
from vidgen.models.placement import device_of, dtype_of
from vidgen.models.priors.any_order import AnyOrderLogits
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import WORDS_END, Tokens, blank_tokens
from vidgen.models.text.encoders import plain_bytes
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.masked.any_order import sample_any_order

if TYPE_CHECKING:
    from vidgen.pipelines.priors.pipeline import PriorPipeline


def words_grid(config: TokenPriorConfig, grid: Grid) -> Grid:
    """Return the cells of a clip's `grid` with the frames of words before it; the same without words.

    Raises VidgenError for a size whose frames the words do not fill.
    """
    t, h, w = grid
    if config.words % (h * w * config.codes):
        raise VidgenError(
            f"model.words={config.words} fill no whole frames of {h}x{w} cells with {config.codes} tokens each; give a "
            f"multiple of {h * w * config.codes}"
        )
    return t + config.words // (h * w * config.codes), h, w


def join_words(
    config: TokenPriorConfig, captions: Sequence[str], tokens: Tokens, grid: Grid, *, cut: bool = False
) -> tuple[Tokens, Grid]:
    """Return tokens of clips with those of their captions before them, and the cells of both; the same without words.

    Captions that are too long are `cut`, or refused. Raises VidgenError as `word_tokens` and `words_grid`.
    """
    if not config.words:
        return tokens, grid
    words = word_tokens(captions, config.words, cut=cut).to(tokens.device)
    return torch.cat([words, tokens], dim=1), words_grid(config, grid)


def word_tokens(captions: Sequence[str], places: int, *, cut: bool = False) -> Int[Tensor, "b k"]:
    """Return the bytes of captions, lower case, filled up with ends. Raises VidgenError for one that is longer than its
    places, unless it is `cut`."""
    rows = []
    for caption in captions:
        data = plain_bytes(caption)
        if len(data) > places and not cut:
            raise VidgenError(f"a caption of {len(data)} bytes, and this prior has places for {places}: {caption!r}")
        rows.append([*data[:places], *[WORDS_END] * (places - len(data))])
    return torch.tensor(rows, dtype=torch.int64)


def read_words(tokens: Int[Tensor, "b k"]) -> list[str]:
    """Return the captions of their tokens, up to the first end; bytes that are no text are U+FFFD."""
    rows = (row[: row.index(WORDS_END)] if WORDS_END in row else row for row in tokens.tolist())
    return [bytes(row).decode(errors="replace") for row in rows]


def describe_clips(
    pipe: PriorPipeline,
    clips: UInt8[np.ndarray, "b t H W 3"],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 8,
) -> list[str]:
    """Return the words that a prior of clips with words has for clips of one size. Other arguments and errors are those
    of `describe_tokens`."""
    check_words(pipe.prior.config)
    captions = []
    for first in range(0, len(clips), batch_size):
        part = np.asarray(clips[first : first + batch_size])
        with torch.inference_mode():
            video = torch.stack([to_tensor(clip) for clip in part]).to(device_of(pipe.vae), dtype_of(pipe.vae))
            indices = pipe.vae.encode(video).indices.to(device_of(pipe.prior))
        generators = [sample_generator(seed, first + k) for k in range(len(part))]
        grid = tuple(indices.shape[1:4])
        captions += describe_tokens(pipe.prior, pipe.tokens_of(indices), grid, generators, temperature=temperature)
    return captions


@torch.inference_mode()
def describe_tokens(
    prior: TokenPrior, tokens: Int[Tensor, "b n"], grid: Grid, generators: Generators, *, temperature: float = 0.0
) -> list[str]:
    """Return the words for tokens of clips, byte after byte, each given the clip and those before it (Sun et al. 2019,
    VideoBERT, section 3.2, with bytes in place of its pieces of words).

    Raises VidgenError for a prior without words, for one of order causal, to which words come before the clip, and for
    one with classes.

    Args:
        prior: Of order masked or random.
        tokens: Of clips.
        grid: Their cells.
        generators: One a clip, or one for all.
        temperature: Of the draws; 0 is the most probable byte.
    """
    check_words(prior.config)
    count, whole = prior.config.words, words_grid(prior.config, grid)
    hidden = torch.cat([blank_tokens(tokens, count), tokens], dim=1)
    logits = AnyOrderLogits(prior, whole) if prior.config.order == "random" else partial(prior, grid=whole)
    order = torch.arange(hidden.shape[1], device=hidden.device)
    sampling = TokenSampling(temperature=temperature)
    return read_words(sample_any_order(logits, hidden, sampling, generators, order=order)[:, :count])


def check_words(config: TokenPriorConfig) -> None:
    """Raise VidgenError for a prior that has no words for a clip."""
    if not config.words or config.order == "causal" or config.classes:
        kind = f"order {config.order}, {config.words} places for words, {config.classes} classes"
        raise VidgenError(
            f"a prior of {kind} has no words for a clip; name one of order masked or random, without classes, that was "
            "trained with model.words"
        )


def check_call(config: TokenPriorConfig, settings: Mapping[str, Any]) -> None:
    """Raise VidgenError for settings of a call, by name, that say nothing where captions are tokens; what is None or ""
    was not asked for."""
    asked = [name for name, value in settings.items() if value not in (None, "")]
    if config.words and asked:
        raise VidgenError(f"{asked[0]} says nothing to a prior with words among its tokens; leave it out")
