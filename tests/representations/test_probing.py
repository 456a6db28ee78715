"""kNN on data whose answer is known, scikit-learn's own number, and tasks that are none."""

import json

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.knn import knn_probe, knn_rows, make_knn
from vidgen.representations.probing import accuracy_interval, choose_and_score, make_task, validation_folds

CLASSES, EACH, WIDTH = 3, 40, 8


def blobs(spread: float, seed: int = 0):
    """Features and labels of one Gaussian a class, in random order; 24 groups of five, the last eight for test."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), EACH))
    centres = rng.normal(size=(CLASSES, WIDTH)) * 5
    X = (centres[labels] + rng.normal(size=(len(labels), WIDTH)) * spread).astype(np.float32)
    groups = np.arange(len(labels)) // 5
    split = np.where(groups < 16, "train", "test")
    return X, [f"c{i}" for i in labels], split, [f"g{i}" for i in groups]


def test_separable_classes_are_told_apart():
    X, y, split, groups = blobs(spread=0.1)
    score = knn_probe(X, make_task(y, split, groups))
    assert score.test == score.validation == 1.0
    assert score.ci == pytest.approx((40 / (40 + 1.96**2), 1.0))  # Wilson's for 40 of 40
    assert score.choice == 1  # the first of equals


def test_shuffled_labels_are_at_chance():
    X, y, split, groups = blobs(spread=0.1)
    wrong = np.random.default_rng(1).permutation(y)
    score = knn_probe(X, make_task(wrong, split, groups))
    assert abs(score.test - 1 / CLASSES) < 0.2 and abs(score.validation - 1 / CLASSES) < 0.2
    assert score.ci[0] <= score.test <= score.ci[1] and score.ci[1] - score.ci[0] > 0.05


@pytest.mark.parametrize("k", [1, 5])
def test_the_number_is_scikit_learns(k):
    X, y, split, groups = blobs(spread=6.0)
    train, test, y = split == "train", split == "test", np.array(y)
    scale = StandardScaler().fit(X[train])
    plain = KNeighborsClassifier(k, metric="cosine").fit(scale.transform(X[train]), y[train])
    score = knn_probe(X, make_task(y, split, groups), ks=[k])
    assert score.test == plain.score(scale.transform(X[test]), y[test])
    assert 0.4 < score.test < 1.0


def test_the_choice_is_made_without_the_test_rows():
    X, y, split, groups = blobs(spread=6.0)
    spoiled = X.copy()
    spoiled[split == "test"] = 0.0
    one, other = (knn_probe(x, make_task(y, split, groups)) for x in (X, spoiled))
    assert (one.choice, one.validation) == (other.choice, other.validation) and one.test != other.test


def test_folds_keep_groups_whole_and_cover_train():
    _, y, split, groups = blobs(spread=1.0)
    task = make_task(y, split, groups)
    folds = validation_folds(task)
    assert sorted(np.concatenate([held for _, held in folds])) == task.train.tolist()
    for fit, held in folds:
        assert not set(task.groups[fit]) & set(task.groups[held])
        assert not {*fit, *held} & set(task.test)


def test_a_validation_split_is_used_where_there_is_a_test_split():
    X, y, split, groups = blobs(spread=1.0)
    split = np.where(np.arange(len(y)) < 40, "val", split)
    task = make_task(y, split, groups)
    assert task.validation.tolist() == list(range(40)) and len(task.test) == 40 and len(task.train) == 40
    assert validation_folds(task) == [(task.train, task.validation)]
    small = np.where(split == "val", None, split)  # a split of no name is left out
    assert len(make_task(y, small, groups).train) == 40 and make_task(y, small, groups).validation is None


def test_without_splits_one_is_drawn_by_group():
    _, y, _, groups = blobs(spread=1.0)
    task = make_task(y, None, groups)
    assert not task.given and 20 <= len(task.test) <= 40
    assert not set(task.groups[task.train]) & set(task.groups[task.test])
    assert np.array_equal(task.test, make_task(y, [None] * len(y), groups).test)
    assert not np.array_equal(task.test, make_task(y, None, groups, seed=1).test)


def test_the_interval_is_wider_over_groups_than_over_clips():
    rng = np.random.default_rng(0)
    per_group = rng.random(30) < 0.7
    right, groups = np.repeat(per_group, 10), np.repeat(np.arange(30), 10)
    low, high = accuracy_interval(right, groups)
    alone = accuracy_interval(right, np.arange(300))
    assert low < right.mean() < high and high - low > 2 * (alone[1] - alone[0])
    # with groups of one clip it is the binomial's: p +- 1.96 sqrt(p (1 - p) / n)
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 300)
    assert np.allclose(alone, (right.mean() - half, right.mean() + half), atol=0.015)
    assert accuracy_interval(right, groups) == (low, high)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"y": ["a", "b", None, "a"]}, "clip '2' has no label"),
        ({"y": ["a", "a", "a", "b"]}, "only one class in 'train' \\('a'\\)"),
        ({"groups": ["g", "h", "i", "g"]}, "group 'g' is in both 'train' and 'test'"),
        ({"groups": ["g", "g", "g", "h"]}, "only one group in 'train'"),
        ({"split": ["train", "train", "train", "other"]}, "needs a split 'train' and one of test"),
        ({"split": [None] * 4, "groups": ["g", "g", "h", "h"]}, "2 groups, 2 clips"),
    ],
)
def test_what_is_no_task(change, words):
    task = {"y": ["a", "b", "a", "b"], "split": ["train"] * 3 + ["test"], "groups": list("ghij")} | change
    with pytest.raises(VidgenError, match=words) as error:
        make_task(**task)
    assert "\n" not in str(error.value)


def test_features_that_are_not_finite_name_the_clip():
    X, y, split, groups = blobs(spread=1.0)
    X[7, 2] = np.inf
    ids = [f"clip{i}.mp4" for i in range(len(X))]
    with pytest.raises(VidgenError, match="'clip7.mp4' are not finite"):
        choose_and_score(make_knn, [1], X, make_task(y, split, groups, ids))


def test_rows_of_a_bank_are_plain_data(tmp_path):
    import torch

    X, y, split, groups = blobs(spread=0.1)
    rows = [
        BankRow(id=str(i), label=a, split=b, group=c) for i, (a, b, c) in enumerate(zip(y, split, groups, strict=True))
    ]
    noise = torch.randn(len(X), 4, generator=torch.Generator().manual_seed(0))
    features = {"tokenizer.latents": torch.from_numpy(X), "dit.blocks.0@t=0.10": noise, "raw_pixels": noise}
    with BankWriter(tmp_path / "bank", {"pool": "mean", "keys": list(features)}) as writer:
        writer.add(rows, features)
    bank = FeatureBank.load(tmp_path / "bank")
    table = knn_rows(bank)
    assert json.loads(json.dumps(table)) == table
    assert [row["tap"] for row in table] == ["tokenizer.latents", "dit.blocks.0", "raw_pixels", "majority"]
    assert [row["baseline"] for row in table] == [False, False, True, True]
    assert [row["noise_level"] for row in table] == [None, 0.1, None, None]
    assert table[0]["test"] == 1.0 and table[0]["pool"] == "mean" and table[2]["pool"] == "none"
    assert (
        table[0] | {"kind": "knn", "task": "label", "metric": "accuracy", "test_clips": 40, "test_groups": 8}
        == table[0]
    )
    counts = [sum(label == name and side == "test" for label, side in zip(y, split, strict=True)) for name in set(y)]
    assert table[-1]["test"] in [count / 40 for count in counts]
    assert [row["tap"] for row in knn_rows(bank, ["dit.blocks.0"])] == ["dit.blocks.0", "raw_pixels", "majority"]
    with pytest.raises(VidgenError, match="no features 'dit.blocks.9'"):
        knn_rows(bank, ["dit.blocks.9"])
