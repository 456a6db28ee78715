"""Scores of pairs of clips and captions that differ in one thing, beside twins of the model that cannot tell them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from vidgen.data.shapes.labels import ShapeWorldConfig
from vidgen.data.shapes.scenes.counterfactuals import COUNTERFACTUALS, Counterfactual, CounterfactualWorld
from vidgen.interfaces import TextVideoEncoder
from vidgen.metrics.intervals import Mean, difference_interval, wilson_interval
from vidgen.models.text_video.embedding import Embedding
from vidgen.representations.language.world_clips import Clip, embed_clips
from vidgen.representations.search.retrieval import DIGITS

CHANCE = {"text": 1 / 4, "video": 1 / 4, "group": 1 / 6}


@dataclass(frozen=True, kw_only=True, eq=False)
class PairResults:
    """Which of n pairs are told apart (Thrush et al. 2022, Winoground, equations 1 to 3).

    text: with each clip its own caption scores higher than the other. video: with each caption its own clip does.
    group: both. Equal scores tell nothing apart. Of random scores 1/4, 1/4 and 1/6 are.
    """

    text: Bool[np.ndarray, " n"]
    video: Bool[np.ndarray, " n"]

    @property
    def group(self) -> Bool[np.ndarray, " n"]:
        """Where both captions and both clips are told apart."""
        return self.text & self.video

    def shares(self) -> dict[str, Mean]:
        """Return the share of the pairs for each score, with its 95% interval."""
        shares = {}
        for name in CHANCE:
            right = getattr(self, name)
            share = float(right.mean())
            shares[name] = Mean(mean=share, interval=wilson_interval(share, len(right)), n=len(right))
        return shares


@dataclass(frozen=True, kw_only=True, eq=False)
class CounterfactualScores:
    """Scores of a model on pairs of a kind, and of its twins by their names.

    gain: the group score of the model, less that of the twin which comes nearest, over the same pairs; `nearest` is
        that twin's name. What is not gained is told by frames or words whatever their order.
    """

    kind: str
    scores: dict[str, Mean]
    twins: dict[str, dict[str, Mean]]
    gain: Mean
    nearest: str


def judge_pairs(scores: Float[np.ndarray, "n 2 2"]) -> PairResults:
    """Return which pairs are told apart by scores[i, caption, clip]."""
    s = np.round(np.asarray(scores, np.float64), DIGITS)
    return PairResults(
        text=(s[:, 0, 0] > s[:, 1, 0]) & (s[:, 1, 1] > s[:, 0, 1]),
        video=(s[:, 0, 0] > s[:, 0, 1]) & (s[:, 1, 1] > s[:, 1, 0]),
    )


def shuffle_frames(video: Clip, rng: np.random.Generator) -> Clip:
    """Return the frames in random order."""
    return video[rng.permutation(len(video))]


def hold_frame(video: Clip, rng: np.random.Generator) -> Clip:
    """Return one frame, drawn at random, as often as there are frames."""
    return np.repeat(video[rng.integers(len(video))][None], len(video), axis=0)


def list_words(caption: str) -> list[str]:
    """Return the words of a caption without their order's traces: no commas, and "a" for "an"."""
    return ["a" if word == "an" else word for word in re.findall(r"[\w-]+", caption.lower())]


def shuffle_words(caption: str, rng: np.random.Generator) -> str:
    """Return the words in random order."""
    return " ".join(rng.permutation(list_words(caption)))


def sort_words(caption: str, rng: np.random.Generator) -> str:
    """Return the words in alphabetical order, which is the same for captions of the same words."""
    return " ".join(sorted(list_words(caption)))


# What keeps everything of a clip, or of a caption, but the order of its frames or words.
FRAME_TWINS: dict[str, Callable[[Clip, np.random.Generator], Clip]] = {
    "frames shuffled": shuffle_frames,
    "one frame held": hold_frame,
}
WORD_TWINS: dict[str, Callable[[str, np.random.Generator], str]] = {
    "words shuffled": shuffle_words,
    "words sorted": sort_words,
}


@torch.no_grad()
def score_pairs(
    encoder: TextVideoEncoder, pairs: Sequence[Counterfactual], rng: np.random.Generator
) -> dict[str, Float[np.ndarray, "n 2 2"]]:
    """Return the scores of captions with clips, [i, caption, clip], under "" for the model and names of its twins."""
    captions = [caption for pair in pairs for caption in pair.captions]
    clips = [clip for pair in pairs for clip in pair.videos]

    def pick(texts: Embedding, videos: Embedding) -> Float[np.ndarray, "n 2 2"]:
        scores = encoder.score(texts, videos).float().cpu().numpy().reshape(len(pairs), 2, len(pairs), 2)
        own = np.arange(len(pairs))
        return scores[own, :, own]

    texts, videos = encoder.embed_texts(captions), embed_clips(encoder, clips)
    scores = {"": pick(texts, videos)}
    for name, change in FRAME_TWINS.items():
        scores[name] = pick(texts, embed_clips(encoder, [change(clip, rng) for clip in clips]))
    for name, change in WORD_TWINS.items():
        scores[name] = pick(encoder.embed_texts([change(caption, rng) for caption in captions]), videos)
    return scores


def score_counterfactuals(
    encoder: TextVideoEncoder,
    kind: str,
    n: int,
    *,
    config: ShapeWorldConfig,
    batch_size: int = 16,
    progress: Callable[[int], None] | None = None,
) -> CounterfactualScores:
    """Score a model on the first n pairs of a kind of COUNTERFACTUALS, clips of `config`, and its twins beside it.

    Raises ValueError for an unknown kind, or for fewer frames than it can be told from.
    """
    world = CounterfactualWorld(kind, config)
    rng = np.random.default_rng((config.seed, list(COUNTERFACTUALS).index(kind)))
    batches = []
    for first in range(0, n, batch_size):
        pairs = [world[index] for index in range(first, min(first + batch_size, n))]
        batches.append(score_pairs(encoder, pairs, rng))
        if progress:
            progress(first + len(pairs))
    results = {name: judge_pairs(np.concatenate([batch[name] for batch in batches])) for name in batches[0]}
    model = results.pop("")
    nearest = max(results, key=lambda name: results[name].group.mean())
    share, other = float(model.group.mean()), float(results[nearest].group.mean())
    return CounterfactualScores(
        kind=kind,
        scores=model.shares(),
        twins={name: result.shares() for name, result in results.items()},
        gain=Mean(mean=share - other, interval=difference_interval(share, n, other, n), n=n),
        nearest=nearest,
    )
