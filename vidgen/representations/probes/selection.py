"""What every probe shares: chosen on validation, reported on test, with an interval over groups."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from vidgen.errors import VidgenError
from vidgen.representations.probes.metrics import METRICS, bootstrap_interval
from vidgen.representations.probes.task import TARGET_TYPES, ProbeTask

Estimator = Any  # anything with scikit-learn's fit and predict
Predict = Callable[..., list[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A kind of probe.

    choices: settings, the first of equals being preferred.
    predict(choices, X, y, others, target_type, seed): for every choice, what it says of `others`, fitted on X and y (words for
        classes, 0 and 1 for sets of words, numbers), in the form of y.
    goals: the kinds of labels that it takes.
    takes: "vectors" X (n, c), "tokens" (n, l, c), or "frames", which are tokens in order of time.
    fits(choice, n): whether a choice is possible with n clips to fit on.
    """

    choices: tuple[Any, ...]
    predict: Predict
    goals: tuple[str, ...] = TARGET_TYPES
    takes: Literal["vectors", "tokens", "frames"] = "vectors"
    fits: Callable[[Any, int], bool] = lambda choice, n: True


@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """The metric on `validation` and `test`, the 95% interval `ci` of the latter, the `choice` that was made, and what
    was `predicted` of the test clips and `counts` (see `Metric`)."""

    choice: Any
    validation: float
    test: float
    ci: tuple[float, float]
    predicted: np.ndarray = field(repr=False, compare=False)
    counts: Float[np.ndarray, "m s"] = field(repr=False, compare=False)


def by_estimator(make: Callable[[Any, str, int], Estimator]) -> Predict:
    """`Probe.predict` of estimators make(choice, target_type, seed), each fitted alone."""

    def predict(
        choices: Sequence[Any], X: np.ndarray, y: np.ndarray, others: np.ndarray, target_type: str, seed: int
    ) -> list[np.ndarray]:
        return [np.asarray(make(c, target_type, seed).fit(X, y).predict(others)) for c in choices]

    return predict


def choose_and_score(
    probe: Probe,
    X: Float[np.ndarray, "n *axes c"],
    task: ProbeTask,
    *,
    choices: Sequence[Any] | None = None,
    seed: int = 0,
) -> ProbeScore:
    """Fits every choice on features X, takes the best on validation (the first of equals), and scores that on test,
    fitted on all of train. `seed` is of the interval, and of probes that are trained from random weights.

    Raises VidgenError for a probe that cannot take such labels, and, naming the clip, for features that are not finite.
    """
    if task.target_type not in probe.goals:
        raise VidgenError(
            f"this probe takes labels of kind {', '.join(probe.goals)}; {task.name!r} is {task.target_type}"
        )
    check_finite(X, task.ids)
    folds, metric = validation_folds(task), METRICS[task.target_type]
    fewest = min(len(fit) for fit, _ in folds)
    choices = probe.choices if choices is None else tuple(choices)
    choices = [choice for choice in choices if probe.fits(choice, fewest)] or [choices[0]]
    counts: list[list[np.ndarray]] = [[] for _ in choices]
    for fit, held in folds:
        for per_choice, said in zip(counts, predictions(probe, choices, X, task, fit, held, seed), strict=True):
            per_choice.append(metric.count(task.y[held], said))
    scores = [metric(np.concatenate(per_choice)) for per_choice in counts]
    best = int(np.argmax(scores))
    (said,) = predictions(probe, [choices[best]], X, task, task.train, task.test, seed)
    found = metric.count(task.y[task.test], said)
    return ProbeScore(
        choice=choices[best],
        validation=scores[best],
        test=metric(found),
        ci=bootstrap_interval(metric, found, task.groups[task.test], seed),
        predicted=said,
        counts=found,
    )


def check_finite(X: Float[np.ndarray, "n *axes c"], ids: Sequence[str]) -> None:
    """Raises VidgenError, naming the clip, for features that are not finite."""
    for row, finite in enumerate(np.isfinite(X.reshape(len(X), -1)).all(1)):
        if not finite:
            raise VidgenError(f"features of clip {ids[row]!r} are not finite; leave it out, or extract it again")


def predictions(
    probe: Probe, choices: Sequence[Any], X: np.ndarray, task: ProbeTask, fit: np.ndarray, score: np.ndarray, seed: int
) -> list[np.ndarray]:
    """What every choice says of the rows `score`, fitted on the rows `fit`."""
    y = task.y[fit]
    if task.target_type == "class" and len(set(y)) == 1:  # a fold may hold one class only, which some estimators refuse
        return [np.full(len(score), y[0], dtype=object)] * len(choices)
    y = y.astype(str) if task.target_type == "class" else y
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn", category=UserWarning)  # ends of the path that do not settle
        said = probe.predict(choices, X[fit], y, X[score], task.target_type, seed)
    shape = task.y[score].shape
    return [one.astype(object) if task.target_type == "class" else one.reshape(shape) for one in said]


def validation_folds(task: ProbeTask, max_folds: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit on, rows to score), groups kept whole: the validation split, or folds of train."""
    from sklearn.model_selection import GroupKFold

    if task.validation is not None:
        return [(task.train, task.validation)]
    groups = task.groups[task.train].astype(str)
    folds = GroupKFold(min(max_folds, len(set(groups)))).split(task.train, groups=groups)
    return [(task.train[fit], task.train[score]) for fit, score in folds]
