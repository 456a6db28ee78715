"""Every kind of probe on data whose answer is known, scikit-learn's own numbers, and choices made without test rows."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.preprocessing import StandardScaler

from vidgen.errors import VidgenError
from vidgen.metrics.intervals import NORMAL_975
from vidgen.representations.probes import PROBES, choose_and_score, make_task

# The ends of the grids of probes that are trained by gradients, so that the test stays short.
FEW = {"mlp": (1e-4,), "attentive": ((2e-2, 0.01),)}
KINDS = [kind for kind in PROBES if kind != "lstm"]  # see test_fitting.py; it takes longer


def with_validation(split):
    """Twenty of the eighty clips to learn from are chosen on: one fit a choice, not five."""
    return np.where(np.arange(len(split)) // 5 // 4 == 3, "val", split)


def shaped(X, kind):
    """The points, as two tokens where a probe wants tokens."""
    return X if PROBES[kind].takes == "vectors" else X.reshape(len(X), 2, -1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_separable_classes_are_told_apart_and_shuffled_labels_are_not(blobs, kind):
    X, y, split, groups = blobs(spread=0.1)
    split = with_validation(split)
    score = choose_and_score(PROBES[kind], shaped(X, kind), make_task(y, split, groups), choices=FEW.get(kind))
    assert score.test == score.validation == 1.0
    assert score.ci == pytest.approx((40 / (40 + NORMAL_975**2), 1.0))  # Wilson's for 40 of 40
    wrong = make_task(np.random.default_rng(1).permutation(y), split, groups)
    score = choose_and_score(PROBES[kind], shaped(X, kind), wrong, choices=FEW.get(kind))
    assert abs(score.test - 1 / 3) < 0.2 and abs(score.validation - 1 / 3) < 0.35
    assert score.ci[0] <= score.test <= score.ci[1] and score.ci[1] - score.ci[0] > 0.05


@pytest.mark.parametrize(
    "kind, choice, plain",
    [
        ("knn", 1, KNeighborsClassifier(1, metric="cosine")),
        ("knn", 5, KNeighborsClassifier(5, metric="cosine")),
        ("linear", 0.1, LogisticRegression(C=0.1, max_iter=1000)),
        ("ridge", 10.0, RidgeClassifier(alpha=10.0)),
        ("centroid", None, NearestCentroid()),
    ],
)
def test_the_number_is_scikit_learns(blobs, kind, choice, plain):
    X, y, split, groups = blobs(spread=6.0)
    train, test, y = split == "train", split == "test", np.array(y)
    scale = StandardScaler().fit(X[train])
    score = choose_and_score(PROBES[kind], X, make_task(y, split, groups), choices=[choice])
    assert score.test == plain.fit(scale.transform(X[train]), y[train]).score(scale.transform(X[test]), y[test])
    assert 0.4 < score.test < 1.0 and score.choice == choice


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["linear", "ridge", "knn", "mlp", "attentive"])
def test_numbers_and_sets_of_words_that_are_linear_are_found(blobs, kind):
    X, _, split, groups = blobs(spread=1.0)
    X, split = np.random.default_rng(0).normal(size=X.shape).astype(np.float32), with_validation(split)
    # little noise in eight features and many clips: what does not learn has a score near 0, or below
    numbers = make_task((X[:, :2] @ [[1.0, 0.5], [0.0, 2.0]]).tolist(), split, groups, target_type="regression")
    words = [[name for name, x in zip("abcd", row, strict=False) if x > 0] for row in X[:, :4]]
    sets = make_task(words, split, groups, target_type="multilabel")
    least = {"linear": (0.999, 0.8), "ridge": (0.999, 0.8)}.get(kind, (0.3, 0.6))
    for task, bound in zip((numbers, sets), least, strict=True):
        score = choose_and_score(PROBES[kind], shaped(X, kind), task, choices=FEW.get(kind))
        assert score.test > bound and score.predictions.shape == task.y[task.test].shape
    if kind == "ridge":
        train, test = numbers.train, numbers.test
        score, X = choose_and_score(PROBES[kind], X, numbers, choices=[alpha := 10.0]), X.astype(np.float64)
        scale = StandardScaler().fit(X[train])
        plain = Ridge(alpha=alpha).fit(scale.transform(X[train]), numbers.y[train])
        assert score.test == pytest.approx(plain.score(scale.transform(X[test]), numbers.y[test]), rel=1e-9)


@pytest.mark.filterwarnings("error")
def test_features_that_are_nearly_the_same_are_no_trouble_for_ridge(blobs):
    X, y, split, groups = blobs(spread=0.1)
    X = np.tile(X, 2500)  # as many as an extraction without pooling has
    X = (X + 1e-4 * np.random.default_rng(0).normal(size=X.shape)).astype(np.float32)
    numbers = make_task(X[:, 0].tolist(), split, groups, target_type="regression")
    for task in (make_task(y, split, groups), numbers):
        assert choose_and_score(PROBES["ridge"], X, task, choices=[0.1]).test > 0.999


def test_the_choice_is_made_without_the_test_rows(blobs):
    X, y, split, groups = blobs(spread=6.0)
    spoiled = X.copy()
    spoiled[split == "test"] = 0.0
    one, other = (choose_and_score(PROBES["linear"], x, make_task(y, split, groups)) for x in (X, spoiled))
    assert (one.choice, one.validation) == (other.choice, other.validation) and one.test != other.test


def test_a_fold_may_hold_one_class(blobs):
    X = np.array([[0.0], [0.1], [1.0], [1.1], [0.0], [1.0]], np.float32)
    task = make_task(list("aabbab"), ["train"] * 4 + ["test"] * 2, list("ggHHxy"))
    for kind in ("linear", "ridge", "centroid", "knn"):
        score = choose_and_score(PROBES[kind], X, task)
        assert score.validation == 0.0  # each group's class is unknown to the other
    assert score.test == 1.0 and score.choice == 1


def test_what_cannot_be_probed_is_named(blobs):
    X, y, split, groups = blobs(spread=1.0)
    ids = [f"clip{i}.mp4" for i in range(len(X))]
    with pytest.raises(VidgenError, match="takes labels of kind class; 'label' is regression"):
        choose_and_score(PROBES["centroid"], X, make_task(X[:, 0].tolist(), split, groups, target_type="regression"))
    X[7, 2] = np.inf
    with pytest.raises(VidgenError, match="'clip7.mp4' are not finite"):
        choose_and_score(PROBES["knn"], X, make_task(y, split, groups, ids), choices=[1])
