"""A caption among a prior's tokens: its bytes, and ends up to the last of their places; a clip's caption in words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid
from vidgen.models.placement import device_of, dtype_of
from vidgen.models.priors.any_order import AnyOrderLogits
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import WORDS_END, Tokens, blank_tokens
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
            f"this prior's {config.words} tokens of words fill no whole frames of {h}x{w} cells; ask for the size of "
            "its training, or train one with a multiple of them"
        )
    return t + config.words // (h * w * config.codes), h, w


def join_words(config: TokenPriorConfig, captions: Sequence[str], tokens: Tokens, grid: Grid) -> tuple[Tokens, Grid]:
    """Return tokens of clips with those of their captions before them, and the cells of both; the same without words.

    Raises VidgenError as `word_tokens` and `words_grid`.
    """
    if not config.words:
        return tokens, grid
    words = word_tokens(captions, config.words).to(tokens.device)
    return torch.cat([words, tokens], dim=1), words_grid(config, grid)


def word_tokens(captions: Sequence[str], places: int) -> Int[Tensor, "b k"]:
    """Return the bytes of captions, filled up with ends. Raises VidgenError for one that is longer than its places."""
    rows = []
    for caption in captions:
        data = caption.encode()
        if len(data) > places:
            raise VidgenError(f"a caption of {len(data)} bytes, and this prior has places for {places}: {caption!r}")
        rows.append([*data, *[WORDS_END] * (places - len(data))])
    return torch.tensor(rows, dtype=torch.int64)


def read_words(tokens: Int[Tensor, "b k"]) -> list[str]:
    """Return the captions of their tokens, up to the first end; bytes that are no text are U+FFFD."""
    rows = (row[: row.index(WORDS_END)] if WORDS_END in row else row for row in tokens.tolist())
    return [bytes(row).decode(errors="replace") for row in rows]


def describe_clips(
    pipe: PriorPipeline, clips: UInt8[np.ndarray, "b t H W 3"], *, temperature: float = 0.0, seed: int = 0
) -> list[str]:
    """Return the words that a prior of clips with words has for clips of one size. Arguments and errors are those of
    `describe_tokens`."""
    check_words(pipe.prior.config)
    with torch.inference_mode():
        video = torch.stack([to_tensor(clip) for clip in clips]).to(device_of(pipe.vae), dtype_of(pipe.vae))
        tokens = pipe.tokens_of(pipe.vae.encode(video).indices.to(device_of(pipe.prior)))
    grid = pipe.grid_of(clips.shape[1:4])
    return describe_tokens(pipe.prior, tokens, grid, temperature=temperature, seed=seed)


@torch.inference_mode()
def describe_tokens(
    prior: TokenPrior, tokens: Int[Tensor, "b n"], grid: Grid, *, temperature: float = 0.0, seed: int = 0
) -> list[str]:
    """Return the words for tokens of clips, byte after byte, each given the clip and those before it (Sun et al. 2019,
    VideoBERT, section 3.2, with bytes in place of its pieces of words).

    Raises VidgenError for a prior without words, and for one of order causal, to which words come before the clip.

    Args:
        prior: Of order masked or random.
        tokens: Of clips.
        grid: Their cells.
        temperature: Of the draws; 0 is the most probable byte.
        seed: Of the draws, one stream a clip.
    """
    check_words(prior.config)
    count, whole = prior.config.words, words_grid(prior.config, grid)
    hidden = torch.cat([blank_tokens(tokens, count), tokens], dim=1)
    logits = AnyOrderLogits(prior, whole) if prior.config.order == "random" else partial(prior, grid=whole)
    sampling, generators = (
        TokenSampling(temperature=temperature),
        [sample_generator(seed, k) for k in range(len(tokens))],
    )
    order = torch.arange(hidden.shape[1], device=hidden.device)
    return read_words(sample_any_order(logits, hidden, sampling, generators, order=order)[:, :count])


def check_words(config: TokenPriorConfig) -> None:
    """Raise VidgenError for a prior that has no words for a clip."""
    if not config.words or config.order == "causal":
        raise VidgenError(
            f"a prior of order {config.order} with {config.words} places for words has none for a clip; name one of "
            "order masked or random that was trained with model.words"
        )
