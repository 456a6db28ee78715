"""A text adapted to one film at test time, by what is most and least like it there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
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
    windows = F.normalize(torch.as_tensor(np.asarray(vectors, np.float32)), dim=-1)
    prototype = windows[positive.copy()].mean(0) - windows[background.copy()].mean(0)
    prototype = prototype.clone().requires_grad_()
    labels = torch.cat([torch.ones(len(positive)), torch.zeros(len(background))])
    balance = torch.cat([torch.full((len(rows),), 1 / len(rows)) for rows in (positive, background)])
    chosen = windows[np.r_[positive, background]]
    optimizer = torch.optim.SGD([prototype], lr=settings.rate)
    with torch.enable_grad():
        for _ in range(settings.steps):
            logits = chosen @ F.normalize(prototype, dim=0) / settings.temperature
            loss = F.binary_cross_entropy_with_logits(logits, labels, weight=balance, reduction="sum")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    learned = (windows @ F.normalize(prototype.detach(), dim=0)).numpy().astype(np.float64)
    own, other = _standardize(curve.values), _standardize(learned)
    return replace(curve, values=(1 - settings.weight) * own + settings.weight * other)


def _standardize(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-12 else np.zeros_like(values)
