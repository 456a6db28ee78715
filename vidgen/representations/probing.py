"""What every probe shares: chosen on validation, reported on test, with an interval over groups."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vidgen.errors import VidgenError

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

Estimator = Any  # anything with scikit-learn's fit and predict
TEST_NAMES = ("test", "val", "validation")  # the first of these that is there is reported on


@dataclass(frozen=True, kw_only=True)
class ProbeTask:
    """Labels, ids and groups (n,) of clips; rows to fit on, to choose on (None: cross-validation), and to report on;
    and whether the split was `given` or drawn."""

    y: np.ndarray
    ids: Sequence[str]
    groups: np.ndarray
    train: Int[np.ndarray, " k"]
    validation: Int[np.ndarray, " v"] | None
    test: Int[np.ndarray, " m"]
    given: bool = True


@dataclass(frozen=True, kw_only=True)
class ProbeScore:
    """Accuracy on `validation` and `test`, the 95% interval `ci` of the latter, and the `choice` that was made."""

    choice: Any
    validation: float
    test: float
    ci: tuple[float, float]


def task_of(bank: FeatureBank, seed: int = 0) -> ProbeTask:
    """The task a bank's labels, splits and groups define. Raises VidgenError where they define none."""
    return make_task(bank.y, [row.split for row in bank.rows], bank.groups, bank.ids, seed=seed)


def make_task(
    y: Sequence[str | None],
    split: Sequence[str | None] | None = None,
    groups: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> ProbeTask:
    """Checks labels, splits and groups; None for groups makes every clip its own.

    "train" is fitted on. Reported is "test", or else "val" or "validation"; where there are both, choices are made on
    the latter, and otherwise by cross-validation over the groups of "train". Rows of other splits are left out. Where
    no row has a split, a quarter of the groups, drawn by `seed`, becomes "test".
    Raises VidgenError for labels missing, one class only, no split to report on, or a group on both sides.
    """
    ids = [str(i) for i in (range(len(y)) if ids is None else ids)]
    groups = np.asarray(ids if groups is None else groups, dtype=object)
    y = np.asarray(y, dtype=object)
    given = split is not None and any(name is not None for name in split)
    split = np.asarray(split, dtype=object) if given else draw_split(y, groups, seed)
    names = [name for name in TEST_NAMES if (split == name).any()][:2]
    if not names or not (split == "train").any():
        there = ", ".join(sorted({str(name) for name in split if name is not None}))
        raise VidgenError(f"a probe needs a split 'train' and one of {', '.join(TEST_NAMES)}; there is {there}")
    parts = {name: np.flatnonzero(split == name) for name in ("train", *names)}
    check_parts(parts, y, groups, ids)
    validation = parts[names[1]] if len(names) > 1 else None
    if validation is None and len(set(groups[parts["train"]])) < 2:
        raise VidgenError(f"only one group in 'train' ({groups[parts['train']][0]!r}); choosing needs two or more")
    return ProbeTask(
        y=y, ids=ids, groups=groups, train=parts["train"], validation=validation, test=parts[names[0]], given=given
    )


def draw_split(y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Every clip's "train" or "test": about a quarter of the groups for test, classes in proportion."""
    from sklearn.model_selection import StratifiedGroupKFold

    count, most = len(set(groups)), max(Counter(y).values())
    if count < 3 or most < 2:
        raise VidgenError(f"{count} groups, {most} clips of a class at most: too few to split for a probe")
    folds = StratifiedGroupKFold(min(4, count, most), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer clips than folds is no harm here
        _, test = next(folds.split(y, y.astype(str), groups))
    split = np.full(len(y), "train", dtype=object)
    split[test] = "test"
    return split


def check_parts(parts: dict[str, np.ndarray], y: np.ndarray, groups: np.ndarray, ids: Sequence[str]) -> None:
    """Raises VidgenError for labels missing, a group in two parts, or one class only to learn from."""
    sides: dict[str, str] = {}
    for name, rows in parts.items():
        for row in rows:
            if y[row] is None:
                raise VidgenError(f"clip {ids[row]!r} has no label; a probe needs one for every clip of its splits")
            if (other := sides.setdefault(groups[row], name)) != name:
                raise VidgenError(f"group {groups[row]!r} is in both {other!r} and {name!r}; keep it on one side")
    if len(classes := set(y[parts["train"]])) < 2:
        raise VidgenError(f"only one class in 'train' ({classes.pop()!r}); a probe needs two")


def choose_and_score(
    make: Callable[[Any], Estimator],
    choices: Sequence[Any],
    X: Float[np.ndarray, "n c"],
    task: ProbeTask,
    *,
    seed: int = 0,
) -> ProbeScore:
    """Fits `make(choice)` on features X for every choice, takes the best on validation (the first of equals), and
    scores that on test, fitted on all of train.

    Raises VidgenError, naming the clip, for features that are not finite.
    """
    for row, finite in enumerate(np.isfinite(X).all(1)):
        if not finite:
            raise VidgenError(f"features of clip {task.ids[row]!r} are not finite; leave it out, or extract it again")
    folds = validation_folds(task)
    scores = [np.concatenate([hits(make(c), X, task.y, *fold) for fold in folds]).mean() for c in choices]
    best = int(np.argmax(scores))
    right = hits(make(choices[best]), X, task.y, task.train, task.test)
    return ProbeScore(
        choice=choices[best],
        validation=float(scores[best]),
        test=float(right.mean()),
        ci=accuracy_interval(right, task.groups[task.test], seed),
    )


def validation_folds(task: ProbeTask, max_folds: int = 5) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to fit on, rows to score), groups kept whole: the validation split, or folds of train."""
    from sklearn.model_selection import GroupKFold

    if task.validation is not None:
        return [(task.train, task.validation)]
    groups = task.groups[task.train]
    folds = GroupKFold(min(max_folds, len(set(groups)))).split(task.train, groups=groups)
    return [(task.train[fit], task.train[score]) for fit, score in folds]


def hits(
    estimator: Estimator, X: Float[np.ndarray, "n c"], y: np.ndarray, fit: np.ndarray, score: np.ndarray
) -> Bool[np.ndarray, " k"]:
    """Which of the rows `score` the estimator gets right, fitted on the rows `fit`."""
    return estimator.fit(X[fit], y[fit].astype(str)).predict(X[score]) == y[score].astype(str)


def accuracy_interval(
    right: Bool[np.ndarray, " k"], groups: np.ndarray, seed: int = 0, draws: int = 2000
) -> tuple[float, float]:
    """95% interval of an accuracy: the percentile bootstrap (Efron & Tibshirani 1993, section 13.3) over groups, not
    clips, widened where need be to Wilson's score interval over clips (Wilson 1927), as the bootstrap of a handful of
    groups, or of no errors, can be of no width."""
    names, member = np.unique(groups.astype(str), return_inverse=True)
    count, total = np.bincount(member), np.bincount(member, weights=right)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    low, high = np.percentile(total[drawn].sum(1) / count[drawn].sum(1), [2.5, 97.5])
    n, p, z = len(right), right.mean(), 1.96
    centre, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    wilson = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return max(float(min(low, wilson[0])), 0.0), min(float(max(high, wilson[1])), 1.0)
