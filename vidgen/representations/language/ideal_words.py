"""Sums of words: whether the vectors of texts about several attributes are sums of one vector for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int

from vidgen.data.shapes.synonyms import ATTRIBUTES, TRAINED, word_prompt
from vidgen.interfaces import TextVideoEncoder
from vidgen.representations.language.world_clips import embed_texts

HELD_OUT = 0.2  # of the combinations


@dataclass(frozen=True, kw_only=True, eq=False)
class IdealWords:
    """Vectors of combinations of classes as sums (Trager et al. 2023, Linear Spaces of Meanings, proposition 3).

    mean: of all combinations. words: for each attribute a vector for each class, which sum to zero. shares: of the
        variance over all combinations, what the words of each attribute explain; these add up, as in an analysis of
        variance, and what they leave out depends on combinations.
    """

    mean: Float[np.ndarray, " d"]
    words: tuple[Float[np.ndarray, "n d"], ...]
    shares: tuple[float, ...]

    @property
    def explained(self) -> float:
        """The share of the variance that sums explain; 1 where every vector is the sum of its words."""
        return sum(self.shares)

    def compose(self, classes: Int[np.ndarray, "m a"]) -> Float[np.ndarray, "m d"]:
        """Return the sums for combinations, each by the number of its class for every attribute."""
        return self.mean + sum(words[column] for words, column in zip(self.words, np.asarray(classes).T, strict=True))


@dataclass(frozen=True, kw_only=True)
class Compositionality:
    """How far text vectors of a grid of attributes are sums of words.

    shares: explained variance by attribute. explained: by all. nearest: share of combinations whose sum is nearer, by
        cosine, to the vector of their own text than to that of any other. unseen: the same of combinations that the
        words were fitted without. chance: one in all combinations.
    """

    shares: dict[str, float]
    explained: float
    nearest: float
    unseen: float
    chance: float


def find_ideal_words(vectors: Float[np.ndarray, "*grid d"]) -> IdealWords:
    """Return the words whose sums are nearest to vectors of all combinations of classes, one axis for each attribute.

    Raises ValueError where all vectors are equal, or there is no attribute.
    """
    vectors = np.asarray(vectors, np.float64)
    axes = tuple(range(vectors.ndim - 1))
    mean = vectors.mean(axis=axes)
    variance = float(((vectors - mean) ** 2).sum(axis=-1).mean()) if axes else 0.0
    if variance <= 0:
        raise ValueError("all vectors are equal, or there is one: nothing varies that words could explain")
    words = tuple(vectors.mean(axis=tuple(a for a in axes if a != axis)) - mean for axis in axes)
    shares = tuple(float((part**2).sum(axis=-1).mean()) / variance for part in words)
    return IdealWords(mean=mean, words=words, shares=shares)


def fit_ideal_words(
    vectors: Float[np.ndarray, "m d"], classes: Int[np.ndarray, "m a"], counts: Sequence[int]
) -> IdealWords:
    """Return words by least squares from some of the combinations; `shares` are of the variance of the sums.

    counts: of the classes for each attribute. A class without any combination gets the mean's zero vector, as the
    solution of least norm.
    """
    columns = np.cumsum([0, *counts])
    rows = np.zeros((len(classes), columns[-1]))
    for axis, column in enumerate(np.asarray(classes).T):
        rows[np.arange(len(rows)), columns[axis] + column] = 1.0
    mean = np.asarray(vectors, np.float64).mean(axis=0)
    solution = np.linalg.lstsq(rows, vectors - mean, rcond=None)[0]
    words = tuple(solution[first:last] for first, last in zip(columns[:-1], columns[1:], strict=True))
    energy = [float((part**2).sum(axis=-1).mean()) for part in words]
    return IdealWords(mean=mean, words=words, shares=tuple(e / max(sum(energy), 1e-30) for e in energy))


def measure_compositionality(
    vectors: Float[np.ndarray, "*grid d"], names: Sequence[str], *, seed: int = 0
) -> Compositionality:
    """Measure how far vectors of all combinations are sums; a fifth of them, drawn by `seed`, is held out once."""
    counts = vectors.shape[:-1]
    flat = np.asarray(vectors, np.float64).reshape(-1, vectors.shape[-1])
    classes = np.array(list(product(*map(range, counts))))
    ideal = find_ideal_words(vectors)
    order = np.random.default_rng(seed).permutation(len(flat))
    unseen, seen = np.split(order, [max(round(HELD_OUT * len(flat)), 1)])
    fitted = fit_ideal_words(flat[seen], classes[seen], counts)
    return Compositionality(
        shares=dict(zip(names, ideal.shares, strict=True)),
        explained=ideal.explained,
        nearest=float(_finds_itself(ideal.compose(classes), flat).mean()),
        unseen=float(_finds_itself(fitted.compose(classes), flat)[unseen].mean()),
        chance=1 / len(flat),
    )


def measure_prompts(encoder: TextVideoEncoder, *, seed: int = 0) -> Compositionality:
    """Measure a model's vectors of all prompts "a red circle moves right"."""
    words = [[variants[0] for variants in TRAINED[attribute].values()] for attribute in ATTRIBUTES]
    vectors = embed_texts(encoder, [word_prompt(*row) for row in product(*words)]).vectors.float().cpu().numpy()
    return measure_compositionality(vectors.reshape(*map(len, words), -1), ATTRIBUTES, seed=seed)


def _finds_itself(sums: Float[np.ndarray, "m d"], vectors: Float[np.ndarray, "m d"]) -> np.ndarray:
    """Return whether each sum is nearer to its own vector than to all others; a tie is none."""
    cosines = _unit(sums) @ _unit(vectors).T
    own = cosines.diagonal().copy()
    np.fill_diagonal(cosines, -np.inf)
    return own > cosines.max(axis=1) + 1e-9


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
