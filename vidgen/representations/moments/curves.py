"""Curves of similarity: how well a text goes with each moment of a film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float

from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text_video.embedding import Embedding
from vidgen.representations.language.world_clips import embed_texts
from vidgen.representations.moments.film_features import FilmFeatures

SCORED_WINDOWS = 4096  # at once


def _to_device(embedding: Embedding, device: torch.device | str) -> Embedding:
    values = (embedding.vectors, embedding.tokens, embedding.mask)
    vectors, tokens, mask = (None if value is None else value.to(device) for value in values)
    return Embedding(vectors=vectors, tokens=tokens, mask=mask)


def score_texts(encoder: TextVideoEncoder, features: FilmFeatures, texts: Sequence[str]) -> Float[np.ndarray, "q n"]:
    """Return the score of each text with each window of a film."""
    queries = embed_texts(encoder, list(texts))
    parts = []
    with torch.no_grad():
        for first in range(0, len(features), SCORED_WINDOWS):
            windows = _to_device(features.embedding[first : first + SCORED_WINDOWS], encoder.device)
            parts.append(encoder.score(queries, windows).float().cpu())
    return torch.cat(parts, dim=1).numpy().astype(np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class SimilarityCurve:
    """The score of a text by time: `values` at the middle of windows, linear between, constant before and after.

    bounds: start and end of the windows in seconds. duration: of the film.
    """

    values: Float[np.ndarray, " n"]
    bounds: Float[np.ndarray, "n 2"]
    duration: float

    @cached_property
    def knots(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times and values of the corners, and the integral from 0 up to each, (n + 2,) each."""
        centers = self.bounds.mean(axis=1)
        times = np.r_[0.0, centers, max(self.duration, centers[-1])]
        values = np.r_[self.values[0], self.values, self.values[-1]]
        areas = np.diff(times) * (values[1:] + values[:-1]) / 2
        return times, values, np.r_[0.0, np.cumsum(areas)]

    def at(self, times: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Return the curve at some times in seconds."""
        corners, values, _ = self.knots
        return np.interp(times, corners, values)

    def integral(self, times: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Return the integral of the curve from 0 to some times inside the film."""
        corners, values, areas = self.knots
        times = np.clip(times, 0, corners[-1])
        left = np.clip(np.searchsorted(corners, times, side="right") - 1, 0, len(corners) - 2)
        return areas[left] + (times - corners[left]) * (values[left] + self.at(times)) / 2

    def means(self, bounds: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " m"]:
        """Return the mean of the curve over each span (start, end); where that is empty, its value there."""
        lengths = bounds[:, 1] - bounds[:, 0]
        areas = self.integral(bounds[:, 1]) - self.integral(bounds[:, 0])
        return np.where(lengths > 0, areas / np.where(lengths > 0, lengths, 1), self.at(bounds[:, 0]))


def make_curves(encoder: TextVideoEncoder, features: FilmFeatures, texts: Sequence[str]) -> list[SimilarityCurve]:
    """Return the curve of each text on a film."""
    scores = score_texts(encoder, features, texts)
    return [SimilarityCurve(values=row, bounds=features.bounds, duration=features.duration) for row in scores]
