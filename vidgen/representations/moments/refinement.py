"""A text adapted to one film at test time, by what is most and least like it there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from jaxtyping import Float

from vidgen.bounds import Positive, Range, Share, check_fields
from vidgen.representations.moments.curves import SimilarityCurve


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """Settings of `refine_curve`: so many windows at most are taken for right, so many for background, of all by
    similarity; gradient steps, their rate and temperature; and the weight of what was learned beside the text's own
    similarity."""

    positives: Annotated[int, Range(1, 1000)] = 4
    background: Share = 0.5
    steps: Annotated[int, Range(0, 1000)] = 30
    rate: Positive = 0.1
    temperature: Positive = 0.1
    weight: Share = 0.5

    def __post_init__(self) -> None:
        check_fields(self)


def refine_curve(curve: SimilarityCurve, vectors: Float[np.ndarray, "n d"], settings: Refinement) -> SimilarityCurve:
    """Return a curve in which the film's own windows that are most like the text speak too, and those least like it
    are held down.

    A prototype starts as the mean of the best windows less that of the background, and takes gradient steps that tell
    the two apart; its cosines, at the scale of the curve, are added. Only this vector adapts, to this one film and text
    (as T3AL does of projections, Liberatori et al. 2024, section 3.3; its captioner has no part here).
    """
    count = len(curve.values)
    order = np.argsort(-curve.values, kind="stable")
    positive = order[: min(settings.positives, max(1, count // 4))]
    background = order[len(order) - max(1, int(settings.background * count)) :]
    if count < 2 or len(np.intersect1d(positive, background)):
        return curve
    windows = np.asarray(vectors, np.float64)
    windows = windows / np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), 1e-12)
    prototype = windows[positive].mean(0) - windows[background].mean(0)
    labels = np.repeat([1.0, 0.0], [len(positive), len(background)])
    weights = np.repeat([1 / len(positive), 1 / len(background)], [len(positive), len(background)])
    chosen = windows[np.r_[positive, background]]
    for _ in range(settings.steps):
        prototype = prototype - settings.rate * loss_gradient(prototype, chosen, labels, weights, settings.temperature)
    learned = windows @ _unit(prototype)
    own, other = _standardize(curve.values), _standardize(learned)
    return replace(curve, values=(1 - settings.weight) * own + settings.weight * other)


def loss_gradient(
    prototype: Float[np.ndarray, " d"],
    windows: Float[np.ndarray, "n d"],
    labels: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    temperature: float,
) -> Float[np.ndarray, " d"]:
    """Return the gradient, by the prototype, of the weighted cross-entropy of labels 0 and 1 whose logits are cosines
    of windows of unit length with it, divided by a temperature."""
    unit = _unit(prototype)
    shares = 1 / (1 + np.exp(-windows @ unit / temperature))
    by_unit = (weights * (shares - labels)) @ windows / temperature
    return (by_unit - unit * (unit @ by_unit)) / max(float(np.linalg.norm(prototype)), 1e-12)


def _unit(vector: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _standardize(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-12 else np.zeros_like(values)
