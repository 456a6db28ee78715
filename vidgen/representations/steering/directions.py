"""Steering directions in feature space: of a linear probe, of class means, of nearest neighbors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from vidgen.deprecation import renamed_fields
from vidgen.errors import VidgenError
from vidgen.representations.probes.estimators import make_linear, make_ridge
from vidgen.representations.probes.selection import Estimator, check_finite
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.probes.task import TEST_NAMES, check_column, read_column
from vidgen.representations.search.nearest import search_exactly

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

PENALTY = 0.1  # inverse, of the logistic regression


@renamed_fields(place="position")
@dataclass(frozen=True, kw_only=True)
class Direction:
    """A direction that stands for a label or a number.

    vector: (c,) in the features' own units: once added, a clip without the label is as one with it. start: where along
    it those without are, so that `position` is 0 for them on average and 1 for those with it. separation: chance that
    of two held-out clips the one with the label lies further along (the area under the ROC curve); None where there
    are none.
    """

    name: str
    vector: Float[np.ndarray, " c"]
    start: float
    separation: float | None = None

    def position(self, X: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
        """Return how far along the direction features are."""
        return (X @ self.vector) / float(self.vector @ self.vector) - self.start


def weights_of(fitted: Estimator) -> Float[np.ndarray, " c"]:
    """Return the weights for features as they are, of a standardized linear estimator of two classes or of a number."""
    scaler, linear = fitted[-2], fitted[-1]
    return np.ravel(linear.coef_) / scaler.scale_


def direction_between(
    X: Float[np.ndarray, "n c"], has: Bool[np.ndarray, " n"], way: str = "probe", name: str = "", seed: int = 0
) -> Direction:
    """Return the direction from clips without a label to those with it: along a logistic regression's weights, as far
    as the class means are apart in that direction ("probe"), or from one class mean to the other ("mean").

    Raises VidgenError where there are not two of either.
    """
    if min(has.sum(), (~has).sum()) < 2:
        raise VidgenError(
            f"{name}: {has.sum()} clips with it and {(~has).sum()} without; a direction needs two of each"
        )
    with_it, without = X[has].astype(np.float64).mean(0), X[~has].astype(np.float64).mean(0)
    gap = with_it - without
    if way == "probe":
        weights = weights_of(make_linear(PENALTY, "class", seed).fit(X, has)).astype(np.float64)
        gap = weights * float(gap @ weights) / float(weights @ weights)
    return Direction(name=name, vector=gap, start=float(without @ gap) / float(gap @ gap))


def direction_of_number(X: Float[np.ndarray, "n c"], y: Float[np.ndarray, " n"], name: str = "") -> Direction:
    """Return the direction of a ridge regression's weights, so long that its output grows by one standard deviation of
    y."""
    weights = weights_of(make_ridge(1.0, "regression", 0).fit(X, y)).astype(np.float64)
    vector = weights * float(y.std()) / max(float(weights @ weights), 1e-12)
    return Direction(name=name, vector=vector, start=float(X.mean(0) @ vector) / max(float(vector @ vector), 1e-12))


def direction_to_neighbors(
    X: Float[np.ndarray, "n c"], query: Float[np.ndarray, " c"], count: int, name: str = ""
) -> tuple[Direction, Int[np.ndarray, " k"]]:
    """Return the direction from one clip to the mean of those nearest to it by cosine, and their rows."""
    rows = search_exactly(lambda: [X], Standardizer.fit_blocks(lambda: [X]), query[None], count).rows[0]
    gap = X[rows].astype(np.float64).mean(0) - query
    start = float(query @ gap) / max(float(gap @ gap), 1e-12)
    return Direction(name=name, vector=gap, start=start), rows


def fit_direction(
    bank: FeatureBank, key: str, task: str, value: str | None, *, way: str = "probe", seed: int = 0
) -> Direction:
    """Return the direction of a label of the bank.

    Fitted on the split "train" where there is one, and on all clips otherwise. Raises VidgenError for labels that are
    not there, and features that are not finite.

    Args:
        bank: the features, and the labels.
        key: of the feature.
        task: the name of the labels.
        value: the label; None for a column of numbers.
        way: see `direction_between`.
        seed: of the probe.
    """
    X, sides = bank.X(key), np.array([row.split for row in bank.rows], dtype=object)
    check_finite(X, bank.ids)
    y, labelled = read_labels(bank, task, value)
    held_out = next((sides == name for name in TEST_NAMES if (sides == name).any()), np.full(len(X), False))
    train = (sides == "train") if (sides == "train").any() else ~held_out
    train, held_out = train & labelled, held_out & labelled
    if value is None:
        return direction_of_number(X[train], y[train], task)
    direction = direction_between(X[train], y[train].astype(bool), way, f"{task}={value}", seed)
    separation = area_under_curve(direction.position(X[held_out]), y[held_out].astype(bool))
    return replace(direction, separation=separation)


def read_labels(
    bank: FeatureBank, task: str, value: str | None
) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Return 1 for clips with that value and 0 for others, or their number; and which have a label at all."""
    check_column(bank, task)
    cells, target_type = read_column(bank.column(task), task)
    labelled = np.array([cell is not None for cell in cells])
    if value is None:
        if target_type != "regression" or any(isinstance(cell, list) for cell in cells):
            raise VidgenError(f"{task!r} holds no single numbers; name one of its values: {name_values(cells)}")
        return np.array([0.0 if cell is None else float(cell) for cell in cells]), labelled
    if value not in values_of(cells):
        raise VidgenError(f"{task!r} is never {value!r}; it is {name_values(cells)}")
    has = [cell is not None and (value in cell if isinstance(cell, list) else str(cell) == value) for cell in cells]
    return np.array(has, dtype=np.float64), labelled


def values_of(cells: Sequence) -> list[str]:
    """Return the values of a column of labels, or of the members of its lists, most frequent first."""
    counts: Counter[str] = Counter()
    for cell in cells:
        counts.update(map(str, cell) if isinstance(cell, list) else [] if cell is None else [str(cell)])
    return [name for name, _ in counts.most_common()]


def name_values(cells: Sequence, most: int = 8) -> str:
    """Return the most frequent values as text."""
    values = values_of(cells)
    return ", ".join(values[:most]) + (" and others" if len(values) > most else "")


def area_under_curve(position: Float[np.ndarray, " n"], has: Bool[np.ndarray, " n"]) -> float | None:
    """Return the area under the ROC curve, or None where all clips have the label or none has."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(has, position)) if 0 < has.sum() < len(has) else None
