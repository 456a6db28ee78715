"""Learned here, reported there: the number is that of one bank with this split; banks that do not fit are refused."""

import numpy as np
import pytest

from vidgen.errors import VidgenError
from vidgen.representations.probes import probe_rows
from vidgen.representations.probes.cross_domain import cross_domain_rows
from vidgen.representations.probes.few_shot import Setting, few_shot_rows


def test_two_banks_are_one_with_their_splits(make_bank, planted):
    X, y, split = planted(spread=4.0)
    X = np.float32(X)
    whole = make_bank({"dit.blocks.1@t=0.10": X, "raw_pixels": X[:, :2]}, y, split, "whole")
    one, other = split != "test", split == "test"
    both = []
    for rows, name in ((one, "one"), (other, "other")):
        features = {"dit.blocks.1@t=0.10": X[rows], "raw_pixels": X[rows][:, :2]}
        both.append(make_bank(features, y[rows], split[rows], name, source=name))
    for kind in ("linear", "knn"):
        there = {row["layer"]: row for row in probe_rows(whole, kind)}
        for row in cross_domain_rows(*both, kind):
            same = there[row["layer"]]
            assert row["test"] == same["test"] and row["validation"] == same["validation"], row["layer"]
            assert row["choice"] == same["choice"] and row["test_clips"] == other.sum()
            assert row["domains"] == {"learned": str(both[0].folder), "reported": str(both[1].folder)}
    setting = Setting(shots=2, queries=4, episodes=10)
    there = few_shot_rows(whole, setting=setting)
    rows = cross_domain_rows(*both, "centroid", setting=setting)
    assert [row["layer"] for row in rows] == [row["layer"] for row in there]
    for row, same in zip(rows, there, strict=True):
        assert all(row[name] == same[name] for name in ("test", "ci", "validation", "shots", "ways", "episodes"))
        assert row["domains"]["reported"] == str(both[1].folder)


def test_a_shift_costs_and_is_seen(make_bank, planted):
    X, y, split = planted()
    other, z, _ = planted(n=60, seed=1)
    learned = make_bank({"tokenizer.latents": X}, y, split, "here")
    same = make_bank({"tokenizer.latents": other}, z, name="same", source="more clips")
    turned = make_bank({"tokenizer.latents": -other}, z, name="turned", source="more clips")
    fine, bad = (cross_domain_rows(learned, bank, "centroid")[0] for bank in (same, turned))
    assert fine["test"] == fine["own_domain"] == bad["own_domain"] == 1.0 and bad["test"] < 0.5
    assert fine["train_clips"] == 80 and fine["test_clips"] == 60 and fine["split"] == "given"
    setting = Setting(shots=2, queries=4, episodes=10)
    fine, bad = (cross_domain_rows(learned, bank, "centroid", setting=setting)[0] for bank in (same, turned))
    assert fine["test"] > 0.97 and fine["own_domain"] == bad["own_domain"] > 0.97 and bad["test"] < 0.5
    # without splits, all of the first bank is learned from, and there is no score of its own
    everything = make_bank({"tokenizer.latents": X}, y, name="everything")
    row = cross_domain_rows(everything, same, "centroid")[0]
    assert row["train_clips"] == 160 and "own_domain" not in row
    back = cross_domain_rows(same, learned, "centroid")[0]
    assert back["test_clips"] == 40  # its test split


@pytest.mark.parametrize(
    "meta, line",
    [
        ({"model_hash": "z"}, "was not extracted as .* was: its model_hash is z, not a; extract both"),
        (
            {"preprocessing": {"size": [32, 32], "fps": 8.0}},
            r"its preprocessing \(size\) is \[32, 32\], not \[64, 64\]",
        ),
        ({"pool": "max"}, "its pool is max, not mean"),
        ({"prompt": "a star"}, "its prompt is a star, not "),
    ],
)
def test_banks_of_other_models_and_preprocessing_are_refused(make_bank, planted, meta, line):
    X, y, _ = planted()
    one = make_bank({"raw_pixels": X}, y, name="one")
    with pytest.raises(VidgenError, match=line):
        cross_domain_rows(one, make_bank({"raw_pixels": X}, y, name="two", meta=meta, source="more"), "knn")


def test_what_does_not_fit_together_is_refused(make_bank, planted):
    X, y, split = planted()
    one = make_bank({"raw_pixels": X}, y, split, "one")
    for name, features, labels, source, line in (
        ("other features", {"tokenizer.latents": X}, y, "more", "have no features in common"),
        ("other shapes", {"raw_pixels": X[:, :3]}, y, "more", "have no features in common"),
        ("the same clips", {"raw_pixels": X}, y, "clips", "clip '0.mp4' is in both"),
        ("new classes", {"raw_pixels": X}, np.where(y == "ring", "sea", y), "more", "label 'sea' is in .*new classes"),
        ("no labels", {"raw_pixels": X}, [None] * len(y), "more", "has no labels 'label'; it has words"),
    ):
        with pytest.raises(VidgenError, match=line):
            cross_domain_rows(one, make_bank(features, labels, name=name, source=source), "knn")
