"""Metrics are scikit-learn's and torchmetrics'; intervals cover what they say, and are over groups."""

import numpy as np
import pytest
import torch

from vidgen.metrics.intervals import NORMAL_975, wilson_interval
from vidgen.representations.probes.metrics import METRICS, bootstrap_interval, difference_interval

ACCURACY = METRICS["class"]


def counts_of(right):
    return np.stack([right, np.ones(len(right))], axis=1).astype(float)


def test_metrics_are_those_of_other_libraries():
    from sklearn.metrics import accuracy_score, f1_score, r2_score
    from torchmetrics.functional.classification import multilabel_f1_score
    from torchmetrics.functional.regression import r2_score as r2_of_torchmetrics

    rng = np.random.default_rng(0)
    words, predictions = rng.choice(list("abc"), 50).astype(object), rng.choice(list("abc"), 50).astype(object)
    assert ACCURACY(ACCURACY.count(words, predictions)) == accuracy_score(words.astype(str), predictions.astype(str))
    truth, guess = rng.integers(0, 2, (50, 4)), rng.integers(0, 2, (50, 4))
    f1 = METRICS["multilabel"](METRICS["multilabel"].count(truth, guess))
    theirs = multilabel_f1_score(torch.from_numpy(guess), torch.from_numpy(truth), num_labels=4, average="micro")
    assert f1 == pytest.approx(f1_score(truth, guess, average="micro")) == pytest.approx(theirs.item())
    y = rng.normal(size=(50, 3)) + 5
    p = y + rng.normal(size=(50, 3)) * [0.1, 1.0, 3.0]
    r2 = METRICS["regression"](METRICS["regression"].count(y, p))
    theirs = r2_of_torchmetrics(torch.from_numpy(p), torch.from_numpy(y)).item()
    assert r2 == pytest.approx(r2_score(y, p)) == pytest.approx(theirs)
    nothing = METRICS["multilabel"].count(np.zeros((2, 3)), np.zeros((2, 3)))
    assert METRICS["multilabel"](nothing) == 1.0
    assert METRICS["regression"](METRICS["regression"].count(np.full((4, 1), 0.1), np.full((4, 1), 0.1))) == 0.0


def test_the_interval_is_wider_over_groups_than_over_clips():
    rng = np.random.default_rng(0)
    per_group = rng.random(30) < 0.7
    right, groups = np.repeat(per_group, 10), np.repeat(np.arange(30), 10)
    low, high = bootstrap_interval(ACCURACY, counts_of(right), groups)
    alone = bootstrap_interval(ACCURACY, counts_of(right), np.arange(300))
    assert low < right.mean() < high and high - low > 2 * (alone[1] - alone[0])
    # with groups of one clip it is the binomial's: p +- 1.96 sqrt(p (1 - p) / n)
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 300)
    assert np.allclose(alone, (right.mean() - half, right.mean() + half), atol=0.015)
    assert bootstrap_interval(ACCURACY, counts_of(right), groups) == (low, high)
    assert wilson_interval(1.0, 40) == pytest.approx((40 / (40 + NORMAL_975**2), 1.0))


@pytest.mark.parametrize("target_type", ["class", "regression"])
def test_intervals_cover_the_truth_as_often_as_they_say(target_type):
    """Of 100 draws of 40 groups whose clips are alike, 95 are expected to cover; 88 is 3 standard deviations less."""
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        if target_type == "class":
            truth, right = 0.7, np.repeat(rng.random(40) < 0.7, 3)
            counts = counts_of(right)
        else:
            y = rng.normal(size=(40, 1))
            p = y + 0.5 * rng.normal(size=(40, 1))
            truth = 1 - 0.25  # the noise's variance over that of y
            counts = METRICS[target_type].count(np.repeat(y, 3, axis=0), np.repeat(p, 3, axis=0))
        low, high = bootstrap_interval(METRICS[target_type], counts, np.repeat(np.arange(40), 3), seed)
        covered += low <= truth <= high
    assert covered >= 88


def test_a_gain_is_of_the_same_clips():
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.5
    better = right.copy()
    better[np.flatnonzero(~right)[:20]] = True  # ten percent more, on top of the same luck
    groups = np.arange(200)
    low, high = difference_interval(ACCURACY, counts_of(better), counts_of(right), groups)
    assert 0.05 < low < 0.1 < high < 0.15
    assert difference_interval(ACCURACY, counts_of(right), counts_of(right), groups) == (0.0, 0.0)


def test_one_group_has_no_interval():
    counts = counts_of(np.arange(20) < 12)
    assert bootstrap_interval(ACCURACY, counts, np.zeros(20)) is None
    assert difference_interval(ACCURACY, counts, counts, np.zeros(20)) is None
    assert bootstrap_interval(ACCURACY, counts, np.arange(20) // 10) is not None
