"""Moments found by the similarity of a text to windows of a film, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float

from vidgen.bounds import Choice, Length, Range, Share, check_fields
from vidgen.interfaces import TextVideoEncoder
from vidgen.representations.moments.curves import SimilarityCurve, make_curves
from vidgen.representations.moments.film_features import FilmFeatures
from vidgen.representations.moments.proposals import (
    PROPOSAL_SCORES,
    contrast,
    shot_spans,
    sliding_spans,
    snap_to_cuts,
    watershed_spans,
)
from vidgen.representations.moments.refinement import Refinement, refine_curve
from vidgen.representations.moments.segmentation import find_cuts
from vidgen.representations.moments.spans import Span, suppress_overlaps

PROPOSALS = ("watershed", "sliding", "shots")
MOST_FITTED = 4000  # spans of most contrast whose templates are fitted; of hours there may be a million


@dataclass(frozen=True, kw_only=True)
class LocalizationConfig:
    """How spans are found on a curve of similarity.

    proposals: where they may lie: stretches above the water, sliding windows, runs of shots between hard cuts. score:
    how well one fits, of PROPOSAL_SCORES. snap: ends move to a hard cut that is so many windows near. iou: two spans
    that are left overlap at most so much. top_k: spans that are left. refinement: how the text is adapted to the film
    first; None: not at all.
    """

    proposals: Annotated[tuple[Annotated[str, Choice(PROPOSALS)], ...], Length(1, 3)] = PROPOSALS
    score: Annotated[str, Choice(tuple(PROPOSAL_SCORES))] = "template"
    snap: Annotated[float, Range(0.0, 100.0)] = 0.25
    iou: Share = 0.3
    top_k: Annotated[int, Range(1, 10_000)] = 10
    refinement: Refinement | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "proposals", tuple(self.proposals))
        check_fields(self)


def propose_spans(
    curve: SimilarityCurve, cuts: Sequence[float], kinds: Sequence[str] = PROPOSALS
) -> Float[np.ndarray, "m 2"]:
    """Return the spans, each once, that a moment may have; the whole film where there are none of these kinds."""
    makers = {
        "watershed": lambda: watershed_spans(curve),
        "sliding": lambda: sliding_spans(curve),
        "shots": lambda: shot_spans(cuts, curve.duration),
    }
    bounds = np.concatenate([makers[kind]() for kind in kinds])
    return np.unique(bounds, axis=0) if len(bounds) else np.array([[0.0, curve.duration]])


def locate_on_curve(
    curve: SimilarityCurve, cuts: Sequence[float], config: LocalizationConfig | None = None
) -> list[Span]:
    """Return the spans of a curve by falling score, like ones left out.

    cuts: times in seconds of hard cuts, for proposals of shots.
    """
    config = config or LocalizationConfig()
    bounds = propose_spans(curve, cuts, config.proposals)
    if config.snap:
        window = float(np.median(curve.bounds[:, 1] - curve.bounds[:, 0]))
        bounds = snap_to_cuts(bounds, cuts, config.snap * window, curve.duration)
    if len(bounds) > MOST_FITTED:
        best = np.argsort(-contrast(curve, bounds), kind="stable")[:MOST_FITTED]
        bounds = bounds[np.sort(best)]
    scores = PROPOSAL_SCORES[config.score](curve, bounds)
    spans = [Span(start=s, end=e, score=v) for (s, e), v in zip(bounds.tolist(), scores.tolist(), strict=True)]
    return suppress_overlaps(spans, config.iou, config.top_k)


def locate_texts(
    encoder: TextVideoEncoder,
    features: FilmFeatures,
    texts: Sequence[str],
    config: LocalizationConfig | None = None,
) -> list[list[Span]]:
    """Return for each text the spans of a film where it is true, as far as the model tells, by falling score."""
    config = config or LocalizationConfig()
    cuts = find_cuts(features.changes, features.format.fps).tolist()
    located = []
    for curve in make_curves(encoder, features, texts):
        if config.refinement is not None:
            curve = refine_curve(curve, features.vectors, config.refinement)
        located.append(locate_on_curve(curve, cuts, config))
    return located


def saliency_of(curve: SimilarityCurve, seconds: float) -> Float[np.ndarray, " k"]:
    """Return the mean of a curve over each piece of `seconds` of the film, a shorter one at the end left out; the film
    as a whole where it has no such piece."""
    count = max(1, int(curve.duration / seconds + 1e-9))
    starts = np.arange(count) * seconds
    return curve.means(np.stack([starts, np.minimum(starts + seconds, curve.duration)], axis=1))
