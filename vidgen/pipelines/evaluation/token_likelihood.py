"""How many bits a prior needs for the tokens of clips, beside what they take without one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from numpy import ndarray

from vidgen.data.frames import to_tensor
from vidgen.metrics.intervals import mean_interval
from vidgen.models.placement import device_of, dtype_of
from vidgen.models.priors.likelihood import check_likelihood, join_likelihoods, likelihood
from vidgen.pipelines.priors.conditions import refuse_actions
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.words import join_words
from vidgen.tokenizers.bottlenecks.index_statistics import index_statistics


@torch.inference_mode()
def score_likelihood(
    pipe: PriorPipeline,
    clips: Sequence[tuple[UInt8[ndarray, "t h w 3"], str]],
    *,
    draws: int = 16,
    seed: int = 0,
    batch_size: int = 8,
    advance: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Return what the prior needs for clips of one size with their captions.

    `exact`: bits of the law itself, else an upper bound of their mean. `bits_per_token` and `ci`, its 95% interval over
    clips; `bits_per_pixel`, of all frames; `stored_bits_per_token`, the logarithm of the codebook's size;
    `histogram_bits_per_token`, with the frequencies of these clips' own codes alone; `draws_error`, the standard error
    of the mean bits by the orders or masks that were drawn, 0 where there is one order; `perplexity_by_frame` and, of
    the tokens of a frame, `perplexity_by_position`, None where there is none. All are of the clip, given its caption,
    among the tokens or beside them. Raises VidgenError for a prior over
    continuous tokens, which has no likelihood, and one that is told actions.

    Args:
        pipe: The prior and its tokenizer.
        clips: Frames and caption of each.
        draws: Orders, or masks, of a prior that has many.
        seed: Of those.
        batch_size: Clips at once.
        advance: Called with the number of clips that are done.
    """
    check_likelihood(pipe.prior)
    refuse_actions(pipe.prior, "likelihood")
    bits, tokens, results, words = [], [], [], pipe.prior.config.words
    for first in range(0, len(clips), batch_size):
        part = clips[first : first + batch_size]
        video = torch.stack([to_tensor(frames) for frames, _ in part]).to(device_of(pipe.vae), dtype_of(pipe.vae))
        indices = pipe.vae.encode(video).indices
        rows, grid = pipe.tokens_of(indices).to(device_of(pipe.prior)), tuple(indices.shape[1:4])
        text = {} if pipe.text_encoder is None else {"text": pipe.text_encoder([caption for _, caption in part])}
        joined, cells = join_words(pipe.prior.config, [caption for _, caption in part], rows, grid)
        result = likelihood(pipe.prior, joined, cells, draws=draws, seed=seed + first, given=words, **text)
        bits += (result.nats / math.log(2) / rows.shape[1]).tolist()
        results.append(result)
        tokens.append(rows.cpu())
        advance(len(bits))
    every = torch.cat(tokens)
    mean = mean_interval(bits, bounds=(0.0, math.inf))
    pixels = math.prod(clips[0][0].shape[:3])
    whole = join_likelihoods(results)
    error = whole.standard_error.square().sum().sqrt().item() / len(clips)
    has_places = whole.by_token is not None
    return {
        "exact": whole.exact,
        "n": len(clips),
        "bits_per_token": mean.mean,
        "ci": mean.interval,
        "bits_per_pixel": mean.mean * every.shape[1] / pixels,
        "stored_bits_per_token": mean_over_codes(pipe.prior.config.codebook_sizes, math.log2),
        "histogram_bits_per_token": histogram_bits(every, pipe.prior.config.codebook_sizes),
        "tokens": every.shape[1],
        "draws_error": error / math.log(2) / every.shape[1],
        "perplexity_by_frame": whole.perplexity_by_frame(grid[0]).tolist() if has_places else None,
        "perplexity_by_position": whole.perplexity_by_position(grid[0]).tolist() if has_places else None,
    }


def mean_over_codes(sizes: Sequence[int], measure: Callable[[int], float]) -> float:
    """Return the mean of a measure over the codes of a cell."""
    return sum(map(measure, sizes)) / len(sizes)


def histogram_bits(tokens: torch.Tensor, sizes: Sequence[int]) -> float:
    """Return the entropy in bits of tokens' own histogram, code by code of a cell."""
    codes = tokens.reshape(-1, len(sizes))
    return sum(index_statistics(codes[:, k], size).bits_per_token for k, size in enumerate(sizes)) / len(sizes)
