"""How well texts and clips go together: retrieval where a text may be true of several clips, and classes by prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Bool, Float

from vidgen.data.shapes.labels import ClipLabels
from vidgen.data.shapes.synonyms import ATTRIBUTES, TRAINED, Synonyms, word_prompt
from vidgen.interfaces import TextVideoEncoder
from vidgen.metrics.intervals import Mean, wilson_interval
from vidgen.models.text_video.embedding import Embedding
from vidgen.representations.language.world_clips import embed_texts, score_blocks
from vidgen.representations.search.ranking import rank_query

KS = (1, 5, 10)
DIGITS = 6  # scores that agree in so many are ties: those of equal rows may differ in the last bit


@dataclass(frozen=True, kw_only=True)
class RetrievalScores:
    """Retrieval of m items by n queries; a number k of the keys is how many of the first items are looked at.

    recall: queries for which any right item is among the first k. own: for which the one item that it was made with
        is, though it may have equals. ceiling: the most that `own` can be in the mean, if right items come first and
        nothing tells them apart: min(k, r) / r of a query with r right items, in the mean over queries.
    chance: recall when queries are shuffled. median_rank: of the first right item, from 1.
    """

    recall: dict[int, Mean]
    own: dict[int, Mean]
    ceiling: dict[int, float]
    chance: dict[int, float]
    median_rank: float


def score_retrieval(
    scores: Float[np.ndarray, "n m"],
    truth: Bool[np.ndarray, "n m"],
    own: Bool[np.ndarray, "n m"],
    *,
    seed: int = 0,
    ks: Sequence[int] = KS,
) -> RetrievalScores:
    """Score queries, the rows, by the items that are right (`truth`) and the items they were made with (`own`).

    Equal scores are ties in any order. Raises ValueError for a query that no item is right for.
    """
    scores = np.round(np.asarray(scores, np.float64), DIGITS)
    shuffled = scores[np.random.default_rng(seed).permutation(len(scores))]
    rankings = [rank_query(*row, ks) for row in zip(scores, truth, strict=True)]
    chances = [rank_query(*row, ks).hits for row in zip(shuffled, truth, strict=True)]
    owns = [rank_query(*row, ks).hits for row in zip(scores, own, strict=True)]
    right = truth.sum(axis=1)
    return RetrievalScores(
        recall=_shares(ks, [ranking.hits for ranking in rankings]),
        own=_shares(ks, owns),
        ceiling={k: float((np.minimum(k, right) / right).mean()) for k in ks},
        chance=dict(zip(ks, np.mean(chances, axis=0).tolist(), strict=True)),
        median_rank=float(np.median([ranking.first for ranking in rankings])),
    )


def score_both_ways(
    encoder: TextVideoEncoder,
    texts: Embedding,
    videos: Embedding,
    truth: Bool[np.ndarray, "n m"],
    *,
    seed: int = 0,
    ks: Sequence[int] = KS,
) -> dict[str, RetrievalScores]:
    """Return retrieval of clips by texts and of texts by clips, text i made with clip i."""
    scores = score_blocks(encoder, texts, videos).numpy()
    own = np.eye(len(scores), dtype=bool)
    return {
        "text to video": score_retrieval(scores, truth, own, seed=seed, ks=ks),
        "video to text": score_retrieval(scores.T, truth.T, own, seed=seed, ks=ks),
    }


def classify_attributes(
    encoder: TextVideoEncoder, videos: Embedding, words: Mapping[str, Mapping[str, str]]
) -> dict[str, list[str]]:
    """Return colour, shape and motion of each clip by prompts of all their combinations.

    A class scores what all prompts that name it do together, the sum of the softmax over all prompts: the others' words
    are marginalized out. words: the word or phrase for each class of each attribute.
    """
    names = [list(words[attribute]) for attribute in ATTRIBUTES]
    prompts = [
        word_prompt(*(words[a][name] for a, name in zip(ATTRIBUTES, row, strict=True))) for row in product(*names)
    ]
    logits = float(encoder.logit_scale) * score_blocks(encoder, embed_texts(encoder, prompts), videos)
    shares = logits.softmax(dim=0).reshape(*map(len, names), len(videos))
    classes = {}
    for axis, attribute in enumerate(ATTRIBUTES):
        others = [other for other in range(len(ATTRIBUTES)) if other != axis]
        best = shares.sum(dim=others).argmax(dim=0)
        classes[attribute] = [names[axis][i] for i in best.tolist()]
    return classes


def score_attributes(
    encoder: TextVideoEncoder, videos: Embedding, labels: Sequence[ClipLabels], synonyms: Synonyms = TRAINED
) -> dict[str, Mean]:
    """Return the zero-shot accuracy for each attribute, of clips of one object.

    Where a class has several synonyms, variant i takes the i-th word of each class, and accuracies are means over
    variants. Raises ValueError for clips of two objects.
    """
    if any(len(each.objects) != 1 for each in labels):
        raise ValueError("clips of two objects have no one class; leave them out")
    count = max(len(words) for classes in synonyms.values() for words in classes.values())
    right = {attribute: np.zeros(len(labels)) for attribute in ATTRIBUTES}
    for i in range(count):
        words = {
            attribute: {name: variants[i % len(variants)] for name, variants in synonyms[attribute].items()}
            for attribute in ATTRIBUTES
        }
        for attribute, classes in classify_attributes(encoder, videos, words).items():
            truth = [getattr(each.objects[0], attribute) for each in labels]
            right[attribute] += np.array([a == b for a, b in zip(classes, truth, strict=True)]) / count
    return {attribute: _share(values) for attribute, values in right.items()}


def replace_words(attribute: str, synonyms: Synonyms) -> dict[str, Mapping[str, Sequence[str]]]:
    """Return the words of captions, and synonyms for one attribute alone."""
    return {**TRAINED, attribute: synonyms[attribute]}


def score_synonyms(
    encoder: TextVideoEncoder, videos: Embedding, labels: Sequence[ClipLabels], synonyms: Synonyms
) -> dict[str, dict[str, Mean]]:
    """Return zero-shot accuracies in the words of captions, in synonyms for that attribute alone, and for all."""
    alone = {}
    for attribute in ATTRIBUTES:
        alone[attribute] = score_attributes(encoder, videos, labels, replace_words(attribute, synonyms))[attribute]
    return {
        "words of captions": score_attributes(encoder, videos, labels),
        "synonyms of it": alone,
        "synonyms of all": score_attributes(encoder, videos, labels, synonyms),
    }


def _shares(ks: Sequence[int], hits: Sequence[Sequence[float]]) -> dict[int, Mean]:
    return {k: _share(np.array([row[i] for row in hits])) for i, k in enumerate(ks)}


def _share(values: np.ndarray) -> Mean:
    share = float(values.mean())
    return Mean(mean=share, interval=wilson_interval(share, len(values)), n=len(values))
