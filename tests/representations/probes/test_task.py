"""Splits and groups are kept apart, columns are read as what they are, and what is no task is refused in one line."""

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.probes.selection import validation_folds
from vidgen.representations.probes.task import check_column, make_task, read_column, task_of


def test_folds_keep_groups_whole_and_cover_train(blobs):
    _, y, split, groups = blobs(spread=1.0)
    task = make_task(y, split, groups)
    folds = validation_folds(task)
    assert sorted(np.concatenate([held for _, held in folds])) == task.train.tolist()
    for fit, held in folds:
        assert not set(task.groups[fit]) & set(task.groups[held])
        assert not {*fit, *held} & set(task.test)


def test_a_validation_split_is_used_where_there_is_a_test_split(blobs):
    _, y, split, groups = blobs(spread=1.0)
    split = np.where(np.arange(len(y)) < 40, "val", split)
    task = make_task(y, split, groups)
    assert task.validation.tolist() == list(range(40)) and len(task.test) == 40 and len(task.train) == 40
    assert validation_folds(task) == [(task.train, task.validation)]
    small = np.where(split == "val", None, split)  # a split of no name is left out
    assert len(make_task(y, small, groups).train) == 40 and make_task(y, small, groups).validation is None


@pytest.mark.parametrize("target_type", ["class", "regression"])
def test_without_splits_one_is_drawn_by_group(blobs, target_type):
    _, y, _, groups = blobs(spread=1.0)
    y = y if target_type == "class" else np.arange(len(y)).tolist()
    task = make_task(y, None, groups, target_type=target_type)
    assert not task.has_split and 20 <= len(task.test) <= 40
    assert not set(task.groups[task.train]) & set(task.groups[task.test])
    assert np.array_equal(task.test, make_task(y, [None] * len(y), groups, target_type=target_type).test)
    assert not np.array_equal(task.test, make_task(y, None, groups, target_type=target_type, seed=1).test)


@pytest.mark.parametrize(
    "cells, target_type, first",
    [
        (["red", "1.5"], "class", "red"),
        (["1", "2"], "class", "1"),  # whole numbers may be names
        (["1", "2.5"], "regression", 1),
        (["[1, 2]", None], "regression", [1, 2]),
        (['["red"]', '["red", "blue"]', "[]"], "multilabel", ["red"]),
        (["NaN", "1.5"], "class", "NaN"),
        (["true", "false"], "class", "true"),
    ],
)
def test_columns_are_read_as_they_look(cells, target_type, first):
    values, read_type = read_column(cells)
    assert (read_type, values[0]) == (target_type, first) and [v is None for v in values] == [c is None for c in cells]


def test_whole_numbers_are_numbers_where_that_is_said():
    assert read_column(["1", None, "2"], target_type="regression") == ([1, None, 2], "regression")
    assert read_column(["0.5", "2"], target_type="class") == (["0.5", "2"], "class")
    with pytest.raises(VidgenError, match="label 'speed' is 'fast' for one clip, which is no regression"):
        read_column(["1", "fast"], "speed", "regression")


def test_sets_and_numbers_become_matrices():
    split, groups = ["train", "train", "test"], list("abc")
    task = make_task([["b"], ["a", "b"], []], split, groups, target_type="multilabel")
    assert task.words == ("a", "b") and task.y.tolist() == [[0, 1], [1, 1], [0, 0]] and task.classes == 2
    task = make_task([[1, 2], [3, 4], [5, 6]], split, groups, target_type="regression")
    assert task.y.tolist() == [[1, 2], [3, 4], [5, 6]] and task.classes is None


def test_clips_without_a_label_are_left_out_where_that_is_said():
    split = ["train", "train", "train", "test", "test"]
    for target_type, labels in (("class", ["a", None, "b", "a", None]), ("regression", [1.0, None, 2.0, 3.0, None])):
        task = make_task(labels, split, list("vwxyz"), target_type=target_type, skip_unlabelled=True)
        assert (task.train.tolist(), task.test.tolist(), task.unlabelled) == ([0, 2], [3], 2)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"labels": ["a", "b", None, "a"]}, "clip '2' has no label"),
        ({"labels": ["a", "a", "a", "b"]}, "only one class in 'train' \\('a'\\)"),
        ({"labels": [1.5, 1.5, 1.5, 2], "target_type": "regression"}, "every clip of 'train' has the same 'label'"),
        ({"labels": [["a"]] * 4, "target_type": "multilabel"}, "every clip of 'train' has the same 'label'"),
        ({"labels": [1, [1, 2], 1, 2], "target_type": "regression"}, "'label' has 1 or 2 numbers"),
        ({"labels": [None] * 4, "skip_unlabelled": True}, "no clip has a label 'label'"),
        ({"groups": ["g", "h", "i", "g"]}, "group 'g' is in both 'train' and 'test'"),
        ({"groups": ["g", "g", "g", "h"]}, "only one group in 'train'"),
        ({"split": ["train", "train", "train", "other"]}, "needs a split 'train' and one of test"),
        ({"split": [None] * 4, "groups": ["g", "g", "h", "h"]}, "2 groups, 2 clips"),
    ],
)
def test_what_is_no_task(change, words):
    task = {"labels": ["a", "b", "a", "b"], "split": ["train"] * 3 + ["test"], "groups": list("ghij")} | change
    with pytest.raises(VidgenError, match=words) as error:
        make_task(**task)
    assert "\n" not in str(error.value)


def write_bank(folder, splits):
    with BankWriter(folder, {"pool": "mean"}) as writer:
        rows = [
            BankRow(id=f"{i}", label="ab"[i % 2], split=split, group=f"g{i // 2}") for i, split in enumerate(splits)
        ]
        writer.add(rows, {"x": torch.arange(len(rows), dtype=torch.float32)[:, None]})
    return FeatureBank.load(folder)


def test_a_bank_without_splits_has_the_ones_that_probes_draw(tmp_path):
    bank = write_bank(tmp_path / "bank", [None] * 24)
    task = task_of(bank, 0)
    assert bank.split("train").tolist() == task.train.tolist()
    assert bank.split("test").tolist() == task.test.tolist()
    with pytest.raises(VidgenError, match="no split 'val'; it has none"):
        bank.split("val")


def test_a_bank_of_one_split_and_a_column_of_groups_say_how_to_go_on(tmp_path):
    bank = write_bank(tmp_path / "bank", ["train"] * 24)
    with pytest.raises(
        VidgenError, match=r"there is train\. Report on another bank \(--test-bank\), or drop the column"
    ):
        task_of(bank, 0)
    with pytest.raises(VidgenError, match="column 'subject' was taken for the group of a clip.*Labels are label"):
        check_column(bank, "subject")
