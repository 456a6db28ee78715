"""Rankings by hand, ties against all their orders, and banks whose neighbors are known."""

from itertools import permutations

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.search.ranking import rank_query
from vidgen.representations.search.retrieval import make_search, nearest_clips, retrieve_rows, similarities


def rank(scores, relevant, ks=(1, 2, 3)):
    return rank_query(np.array(scores, float), np.array(relevant, bool), ks)


def test_rankings_by_hand():
    one = rank([0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1])
    assert (one.hits, one.first) == ((0.0, 1.0, 1.0), 2.0) and one.precision == pytest.approx((1 / 2 + 2 / 4) / 2)
    one = rank([0.1, 0.2, 0.3], [1, 0, 1])
    assert (one.hits, one.first) == ((1.0, 1.0, 1.0), 1.0) and one.precision == pytest.approx((1 + 2 / 3) / 2)
    last = rank([3, 2, 1], [0, 0, 1], ks=(1, 3, 10))
    assert (last.hits, last.first) == ((0.0, 1.0, 1.0), 3.0) and last.precision == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="none of 2 items"):
        rank([1, 2], [0, 0])


@pytest.mark.parametrize(
    "scores, relevant",
    [
        ([1, 1, 1, 1, 1], [0, 1, 0, 0, 1]),
        ([3, 2, 2, 2, 1], [0, 1, 0, 1, 1]),
        ([2, 2, 1, 1, 1, 0], [0, 0, 1, 0, 1, 1]),
        ([2, 2, 1, 1], [1, 1, 0, 1]),
    ],
)
def test_ties_are_the_mean_over_all_their_orders(scores, relevant):
    orders = [np.array(order) for order in permutations(range(len(scores)))]
    legal = [o for o in orders if all(np.diff(np.array(scores)[o]) <= 0)]
    plain = [rank(-np.arange(len(o)), np.array(relevant)[o]) for o in legal]
    tied = rank(scores, relevant)
    np.testing.assert_allclose(tied.hits, np.mean([one.hits for one in plain], axis=0))
    assert tied.first == pytest.approx(np.mean([one.first for one in plain]))
    assert tied.precision == pytest.approx(np.mean([one.precision for one in plain]))


def write_bank(folder, X, labels, groups, split=None):
    rows = [
        BankRow(id=f"{i}.mp4", label=label, group=group, split=side)
        for i, (label, group, side) in enumerate(zip(labels, groups, split or [None] * len(X), strict=True))
    ]
    with BankWriter(folder, {"pool": "mean"}) as writer:
        writer.add(rows, {"tokenizer.latents": torch.tensor(X, dtype=torch.float32)})
    return FeatureBank.load(folder)


def test_clips_of_one_group_do_not_find_each_other(tmp_path):
    # by feature each clip is nearest to the one of its group, which has its label; across groups labels are opposite
    X = [[1.0, 0.1], [1.0, 0.2], [-1.0, 0.1], [-1.0, -0.2], [0.9, -2.0], [-0.9, 2.0]]
    bank = write_bank(tmp_path / "bank", X, list("aabbba"), ["g", "g", "h", "h", "i", "j"])
    near, chance = retrieve_rows(bank, same_group=True)
    far, _ = retrieve_rows(bank)
    assert near["recall"]["1"] > far["recall"]["1"] and near["test"] > far["test"]
    assert far["queries"] == 6 and far["gallery"] == 6 and far["split"] == "every clip in all others"
    assert chance["layer"] == "chance" and chance["baseline"]
    # by chance: two of five others are of its label
    assert chance["recall"]["1"] == pytest.approx(2 / 5) and chance["median_rank"] == pytest.approx(6 / 3)


def test_test_clips_are_looked_for_in_train(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 4
    X = 5 * np.eye(4)[y] + 0.1 * rng.normal(size=(40, 4))
    labels, split = [f"c{i}" for i in y], ["train"] * 28 + ["test"] * 12
    groups = [f"g{i}" for i in range(40)]
    bank = write_bank(tmp_path / "bank", X.tolist(), labels, groups, split)
    row, chance = retrieve_rows(bank, ks=(1, 28))
    assert (row["queries"], row["gallery"], row["split"]) == (12, 28, "given")
    assert row["test"] == row["recall"]["1"] == row["median_rank"] == 1.0 and row["ci"] == [1.0, 1.0]
    assert chance["recall"] == pytest.approx({"1": 0.25, "28": 1.0}) and chance["ci"][0] <= chance["test"]
    labels[30] = "alone"
    bank = write_bank(tmp_path / "other", X.tolist(), labels, groups, split)
    assert retrieve_rows(bank)[0]["unanswered"] == 1


def test_neighbors_are_those_of_scikit_learn(tmp_path):
    from sklearn.neighbors import NearestNeighbors

    X = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    bank = write_bank(tmp_path / "bank", X.tolist(), ["a", "b"] * 15, [None] * 30)
    near = nearest_clips(bank, "tokenizer.latents", "4.mp4", 5)
    others = np.delete(X, 4, axis=0)
    mean, std = others.mean(0), others.std(0)
    plain = NearestNeighbors(n_neighbors=5, metric="cosine").fit((others - mean) / std)
    distances, rows = plain.kneighbors((X[4:5] - mean) / std)
    assert [row["id"] for row in near] == [f"{i + (i >= 4)}.mp4" for i in rows[0]]
    np.testing.assert_allclose([row["cosine"] for row in near], 1 - distances[0], atol=2e-6)


def test_blocks_of_queries_are_the_whole(monkeypatch):
    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    rows = np.arange(20)
    whole = np.stack(list(similarities(X, rows, rows)))
    monkeypatch.setattr("vidgen.representations.search.retrieval.AT_ONCE", 60)
    np.testing.assert_allclose(np.stack(list(similarities(X, rows, rows))), whole, atol=2e-6)
    np.testing.assert_allclose(np.diag(whole), 1.0)


def test_bad_input_is_named(tmp_path):
    bank = write_bank(tmp_path / "bank", np.eye(3).tolist(), ["a", None, "b"], [None] * 3)
    for words, line in (
        ({"task": "colour"}, "no labels 'colour'; it has label"),
        ({}, "clip '1.mp4' has no label 'label'"),
        ({"skip_unlabelled": True}, "no query has a clip of its own label"),
        ({"layers": ["dit.blocks.0"], "skip_unlabelled": True}, "no features 'dit.blocks.0'"),
    ):
        with pytest.raises(VidgenError, match=line):
            retrieve_rows(bank, **words)
    with pytest.raises(VidgenError, match="no clip '9.mp4'; its ids are as 0.mp4"):
        nearest_clips(bank, "tokenizer.latents", "9.mp4")
    assert make_search(bank, skip_unlabelled=True).queries.tolist() == [0, 2]
