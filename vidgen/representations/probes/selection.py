"""What every probe shares: settings chosen on validation, scores reported on test, with an interval over groups."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from vidgen.deprecation import renamed_fields
from vidgen.errors import VidgenError
from vidgen.representations.probes.metrics import METRICS, bootstrap_interval
from vidgen.representations.probes.task import TARGET_TYPES, ProbeTask

Fold = tuple[np.ndarray, np.ndarray]  # rows to fit on, rows to score
Estimator = Any  # anything with scikit-learn's fit and predict
Predict = Callable[..., list[np.ndarray]]


@renamed_fields(goals="target_types")
@dataclass(frozen=True, kw_only=True)
class Probe:
    """A kind of probe.

    choices: settings, the first of equals being preferred.
    predict(choices, X, y, others, target_type, seed): for every choice the predictions for `others`, fitted on X and y
        (words for classes, 0 and 1 for sets of words, numbers), in the form of y.
    predict_folds(choices, parts, target_type, seed): the same for several (X, y, others) at once, for a probe that is
        quicker so.
    target_types: the types of labels that it takes.
    takes: "vectors" X (n, c), "tokens" (n, l, c), or "frames", which are tokens in order of time.
    fits(choice, n): whether a choice is possible with n clips to fit on.
    refine(choice): further choices, near the best of `choices`; None where all are among these.
    few_shot: `predict` on features as they are, for few-shot episodes: a handful of clips cannot standardize features.
        None for a probe that a handful of clips cannot teach.
    """

    choices: tuple[Any, ...]
    predict: Predict
    predict_folds: Callable[..., list[list[np.ndarray]]] | None = None
    target_types: tuple[str, ...] = TARGET_TYPES
    takes: Literal["vectors", "tokens", "frames"] = "vectors"
    fits: Callable[[Any, int], bool] = lambda choice, n: True
    refine: Callable[[Any], Sequence[Any]] | None = None
    few_shot: Predict | None = None


@renamed_fields(predicted="predictions")
@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """The metric on `validation` and `test`, the 95% interval `ci` of the latter, the `choice` that was made, and the
    `predictions` for the test clips and their `counts` (see `Metric`), both empty where scores are means of several."""

    choice: Any
    validation: float
    test: float
    ci: tuple[float, float] | None
    predictions: np.ndarray = field(repr=False, compare=False, default_factory=lambda: np.empty(0))
    counts: Float[np.ndarray, "m s"] = field(repr=False, compare=False, default_factory=lambda: np.empty((0, 2)))


def score_counts(
    task: ProbeTask, counts: Float[np.ndarray, "m s"], *, choice: Any, validation: float, seed: int
) -> ProbeScore:
    """Return the score of a task's test clips, from the counts of each."""
    metric = METRICS[task.target_type]
    ci = bootstrap_interval(metric, counts, task.groups[task.test], seed)
    return ProbeScore(choice=choice, validation=validation, test=metric(counts), ci=ci, counts=counts)


def score_predictions(
    task: ProbeTask, predictions: np.ndarray, *, choice: Any, validation: float, seed: int
) -> ProbeScore:
    """Return the score of predictions for a task's test clips."""
    counts = METRICS[task.target_type].count(task.y[task.test], predictions)
    return replace(score_counts(task, counts, choice=choice, validation=validation, seed=seed), predictions=predictions)


def by_estimator(make: Callable[[Any, str, int], Estimator]) -> Predict:
    """Return `Probe.predict` of estimators make(choice, target_type, seed), each fitted alone."""

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
    """Fit every choice on features X, take the best on validation (the first of equals), and score it on test, fitted
    on all of train. `seed` is of the interval, and of probes that are trained from random weights.

    Raises VidgenError for a probe that cannot take such labels, and, naming the clip, for features that are not finite.
    """
    if task.target_type not in probe.target_types:
        raise VidgenError(
            f"this probe takes labels of kind {', '.join(probe.target_types)}; {task.name!r} is {task.target_type}"
        )
    check_finite(X, task.ids)
    folds, metric = validation_folds(task), METRICS[task.target_type]
    fewest = min(len(fit) for fit, _ in folds)
    possible = possible_choices(probe, fewest, choices)

    def validate(candidates: Sequence[Any]) -> list[float]:
        """Return the score of each on the folds' held-out clips."""
        counts: list[list[np.ndarray]] = [[] for _ in candidates]
        of_folds = predict_folds(probe, candidates, X, task, folds, seed)
        for (_, held_out), predictions in zip(folds, of_folds, strict=True):
            for per_choice, labels in zip(counts, predictions, strict=True):
                per_choice.append(metric.count(task.y[held_out], labels))
        return [metric(np.concatenate(per_choice)) for per_choice in counts]

    scores = validate(possible)
    if probe.refine is not None and choices is None:
        more = probe.refine(possible[int(np.argmax(scores))])
        possible, scores = [*possible, *more], [*scores, *validate(more)]
    best = int(np.argmax(scores))
    (predictions,) = predict_rows(probe, [possible[best]], X, task, task.train, task.test, seed)
    return score_predictions(task, predictions, choice=possible[best], validation=scores[best], seed=seed)


def possible_choices(probe: Probe, count: int, choices: Sequence[Any] | None = None) -> list[Any]:
    """Return the choices (None: the probe's) that `count` clips can be fitted with, or the first where none is."""
    choices = probe.choices if choices is None else choices
    return [choice for choice in choices if probe.fits(choice, count)] or [choices[0]]


def check_finite(X: Float[np.ndarray, "n *axes c"], ids: Sequence[str]) -> None:
    """Raise VidgenError, naming the clip, for features that are not finite."""
    for row, finite in enumerate(np.isfinite(X.reshape(len(X), -1)).all(1)):
        if not finite:
            raise VidgenError(f"features of clip {ids[row]!r} are not finite; leave it out, or extract it again")


def predict_rows(
    probe: Probe, choices: Sequence[Any], X: np.ndarray, task: ProbeTask, fit: np.ndarray, score: np.ndarray, seed: int
) -> list[np.ndarray]:
    """Return the predictions of every choice, in the form of the task's labels.

    Args:
        probe: the kind of probe.
        choices: settings of the probe, each fitted alone.
        X: features of all clips.
        task: the labels.
        fit: rows to fit on.
        score: rows to predict.
        seed: of probes that are trained from random weights.
    """
    y = labels_of(task, fit)
    if task.target_type == "class" and len(set(y)) == 1:  # a fold may hold one class only, which some estimators refuse
        return [np.full(len(score), y[0], dtype=object)] * len(choices)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn", category=UserWarning)  # ends of the path that do not settle
        predictions = probe.predict(choices, X[fit], y, X[score], task.target_type, seed)
    return [in_form_of(task, one, score) for one in predictions]


def predict_folds(
    probe: Probe, choices: Sequence[Any], X: np.ndarray, task: ProbeTask, folds: Sequence[Fold], seed: int
) -> list[list[np.ndarray]]:
    """Return `predict_rows` of every fold, together where the probe can; a fold of one class has nothing to learn."""
    one_class = task.target_type == "class" and any(len(set(task.y[fit])) == 1 for fit, _ in folds)
    if probe.predict_folds is None or one_class:
        return [predict_rows(probe, choices, X, task, fit, score, seed) for fit, score in folds]
    parts = [(X[fit], labels_of(task, fit), X[score]) for fit, score in folds]
    predictions = probe.predict_folds(choices, parts, task.target_type, seed)
    return [[in_form_of(task, one, s) for one in each] for each, (_, s) in zip(predictions, folds, strict=True)]


def labels_of(task: ProbeTask, rows: np.ndarray) -> np.ndarray:
    """Return the labels of rows as probes are fitted on them."""
    return task.y[rows].astype(str) if task.target_type == "class" else task.y[rows]


def in_form_of(task: ProbeTask, predictions: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return predictions for `rows` in the form of the task's labels."""
    return predictions.astype(object) if task.target_type == "class" else predictions.reshape(task.y[rows].shape)


def validation_folds(task: ProbeTask, max_folds: int = 5) -> list[Fold]:
    """Return (rows to fit on, rows to score), groups kept whole: the validation split, or folds of train."""
    from sklearn.model_selection import GroupKFold

    if task.validation is not None:
        return [(task.train, task.validation)]
    groups = task.groups[task.train].astype(str)
    folds = GroupKFold(min(max_folds, len(set(groups)))).split(task.train, groups=groups)
    return [(task.train[fit], task.train[score]) for fit, score in folds]
