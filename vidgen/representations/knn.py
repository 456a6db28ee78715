"""The k-nearest-neighbours probe: what features say with nothing trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from vidgen.representations.baselines import PIXEL_BASELINES
from vidgen.representations.extractor import parse_key
from vidgen.representations.probing import Estimator, ProbeScore, ProbeTask, choose_and_score, task_of, validation_folds

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

NEIGHBOURS = (1, 3, 5, 10, 20)


def make_knn(k: int) -> Estimator:
    """k nearest neighbours by cosine, of features standardised on what is fitted."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), KNeighborsClassifier(n_neighbors=k, metric="cosine"))


def make_majority(_: int) -> Estimator:
    """The most frequent class, whatever the features."""
    from sklearn.dummy import DummyClassifier

    return DummyClassifier(strategy="most_frequent")


def knn_probe(
    X: Float[np.ndarray, "n c"], task: ProbeTask, *, ks: Sequence[int] = NEIGHBOURS, seed: int = 0
) -> ProbeScore:
    """Accuracy of kNN, with k chosen on validation; `seed` is of the interval. See `make_task`, `choose_and_score`."""
    fewest = min(len(fit) for fit, _ in validation_folds(task))
    return choose_and_score(make_knn, [k for k in ks if k <= fewest] or [1], X, task, seed=seed)


def knn_rows(
    bank: FeatureBank, taps: Sequence[str] | None = None, *, ks: Sequence[int] = NEIGHBOURS, seed: int = 0
) -> list[dict[str, Any]]:
    """One row of plain data for every feature of the bank (or of `taps` and their baselines), and one for the majority
    class.

    A row has tap, noise_level, pool, kind, task, metric, validation, test, ci, baseline, and: k, split, classes, and
    the number of clips and groups in train and test. Raises VidgenError for a bank that holds no task.
    """
    task = task_of(bank, seed)
    keys = bank.keys
    if taps is not None:
        for tap in taps:
            if not any(tap in (key, parse_key(key)[0]) for key in keys):
                bank.find_key(tap)  # raises, with what is there
        wanted = {*taps, *(f"random.{tap}" for tap in taps), *PIXEL_BASELINES}
        keys = [key for key in keys if wanted & {key, parse_key(key)[0]}]
    rows = [describe(bank, key, task, knn_probe(bank.X(key), task, ks=ks, seed=seed)) for key in keys]
    nothing = np.zeros((len(bank), 1), np.float32)
    majority = choose_and_score(make_majority, [1], nothing, task, seed=seed)
    return [*rows, describe(bank, "majority", task, majority) | {"k": None, "pool": None}]


def describe(bank: FeatureBank, key: str, task: ProbeTask, score: ProbeScore) -> dict[str, Any]:
    """A row of results, as plain data. Whatever is not of the model itself is a baseline."""
    tap, level = parse_key(key)
    baseline = not tap.startswith(("tokenizer.", "dit."))
    return {
        "tap": tap,
        "noise_level": level,
        "pool": "none" if baseline and not tap.startswith("random.") else bank.meta.get("pool"),
        "kind": "knn",
        "task": "label",
        "metric": "accuracy",
        "validation": score.validation,
        "test": score.test,
        "ci": list(score.ci),
        "baseline": baseline,
        "k": score.choice,
        "split": "given" if task.given else "drawn by group",
        "classes": len(set(task.y[task.train])),
        "train_clips": len(task.train),
        "test_clips": len(task.test),
        "train_groups": len(set(task.groups[task.train])),
        "test_groups": len(set(task.groups[task.test])),
    }
