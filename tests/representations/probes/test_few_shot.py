"""Episodes: what is planted is found, noise is chance, and numbers are scikit-learn's on the same episodes."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from vidgen.errors import VidgenError
from vidgen.representations.bank import FeatureBank
from vidgen.representations.probes import make_task
from vidgen.representations.probes.few_shot import (
    FEW_SHOT_PROBES,
    Setting,
    check_few_shot,
    draw_episodes,
    few_shot_rows,
    score_episodes,
    score_few_shot,
)
from vidgen.representations.probes.standardization import Standardizer

FEW = Setting(shots=2, queries=4, episodes=24)


def test_episodes_are_balanced_and_of_their_sides():
    rng = np.random.default_rng(0)
    y = rng.choice(list("abcde"), 200).astype(object)
    support, queries = np.arange(0, 120), np.arange(120, 200)
    episodes = draw_episodes(y, support, queries, Setting(ways=3, shots=4, queries=5, episodes=30), seed=1)
    assert len(episodes) == 30 and len({tuple(sorted(set(y[one.support]))) for one in episodes}) > 3
    for one in episodes:
        names, counts = np.unique(y[one.support].astype(str), return_counts=True)
        query_names, each = np.unique(y[one.queries].astype(str), return_counts=True)
        assert len(names) == 3 and set(counts) == {4} and (names == query_names).all() and set(each) == {5}
        assert set(one.support) <= set(support) and set(one.queries) <= set(queries)
        assert len(set(one.support)) == 12 and len(set(one.queries)) == 15
    again = draw_episodes(y, support, queries, Setting(ways=3, shots=4, queries=5, episodes=30), seed=1)
    assert all(map(np.array_equal, [e.support for e in episodes], [e.support for e in again]))


@pytest.mark.parametrize(
    "kind, choice, plain",
    [
        ("centroid", None, NearestCentroid()),
        ("knn", 1, KNeighborsClassifier(1, metric="cosine")),
        ("linear", 1.0, LogisticRegression(C=1.0, max_iter=1000)),
    ],
)
def test_an_episode_is_scikit_learns(planted, kind, choice, plain):
    X, y, split = planted(spread=3.0)
    task = make_task(y, split)
    X = Standardizer.fit(X[task.train]).transform(X)
    episodes = draw_episodes(task.y, task.train, task.test, FEW, seed=0)
    ours = score_episodes(FEW_SHOT_PROBES[kind], [choice], X, task, episodes, seed=0)[:, 0]
    theirs = [plain.fit(X[e.support], y[e.support]).score(X[e.queries], y[e.queries]) for e in episodes]
    np.testing.assert_allclose(ours, theirs)
    assert 0.4 < np.mean(ours) < 0.95


@pytest.mark.parametrize("kind", FEW_SHOT_PROBES)
def test_what_is_planted_is_found_and_noise_is_chance(planted, kind):
    X, y, split = planted()
    score, each = score_few_shot(FEW_SHOT_PROBES[kind], X, make_task(y, split), FEW)
    assert score.test == each.mean() > 0.97 and score.validation > 0.97 and len(each) == 24
    noise = np.random.default_rng(1).normal(size=X.shape)
    score, each = score_few_shot(FEW_SHOT_PROBES[kind], noise, make_task(y, split), FEW)
    assert abs(score.test - 0.25) < 0.1 and score.ci[0] < score.test < score.ci[1]


def test_the_interval_is_students_over_episodes_and_more_shots_help(planted):
    X, y, split = planted(spread=4.0)
    task = make_task(y, split)
    few, each = score_few_shot(FEW_SHOT_PROBES["centroid"], X, task, Setting(shots=1, queries=6, episodes=40))
    half = 2.0227 * each.std(ddof=1) / 40**0.5
    assert few.ci == pytest.approx((each.mean() - half, each.mean() + half), abs=1e-4)
    many, _ = score_few_shot(FEW_SHOT_PROBES["centroid"], X, task, Setting(shots=10, queries=6, episodes=40))
    assert many.test > few.test + 0.05


def test_a_choice_is_made_without_the_test_rows(planted):
    X, y, split = planted(spread=2.0)
    spoiled = np.where((split == "test")[:, None], 0.0, X)
    one, other = (score_few_shot(FEW_SHOT_PROBES["knn"], x, make_task(y, split), FEW)[0] for x in (X, spoiled))
    assert (one.choice, one.validation) == (other.choice, other.validation) and one.test != other.test
    # by folds of train where there is no validation split
    folded = make_task(y, np.where(split == "val", "train", split))
    assert folded.validation is None and score_few_shot(FEW_SHOT_PROBES["knn"], X, folded, FEW)[0].validation > 0.7


def test_rows_have_their_baselines_and_the_same_episodes(make_bank, planted):
    X, y, split = planted()
    noise = np.random.default_rng(2).normal(size=X.shape)
    features = {"tokenizer.latents": X, "shuffled.tokenizer.latents": noise, "raw_pixels": noise, "weak.raw_pixels": X}
    rows = few_shot_rows(make_bank(features, y, split), setting=FEW)
    assert [row["layer"] for row in rows] == [
        "tokenizer.latents",
        "shuffled.tokenizer.latents",
        "raw_pixels",
        "majority",
    ]
    first = {"kind": "centroid", "shots": 2, "ways": 4, "episodes": 24, "queries": 4, "metric": "accuracy"}
    assert rows[0] | first == rows[0] and [row["baseline"] for row in rows] == [False, True, True, True]
    assert rows[-1]["test"] == 0.25 and rows[-1]["pool"] is None and rows[1]["test"] == rows[2]["test"]
    assert rows[0]["temporal_gain"] == pytest.approx(rows[0]["test"] - rows[1]["test"])
    assert rows[0]["temporal_gain_ci"][0] > 0.5


def test_what_cannot_be_drawn_is_one_line(make_bank, planted):
    X, y, split = planted()
    bank = make_bank({"raw_pixels": X}, y, split)
    for words, line in (
        ({"setting": Setting(shots=50)}, "2-way 50-shot episodes need 2 classes with 50 to learn from"),
        ({"setting": Setting(ways=9)}, "9-way 1-shot episodes need 9 classes with 1 .* and 4 of 4 have them"),
        ({"setting": FEW, "kind": "mlp"}, "'mlp' does not learn from few shots; choose one of knn, weighted_knn"),
    ):
        with pytest.raises(VidgenError, match=line):
            few_shot_rows(bank, **words)
    with pytest.raises(VidgenError, match="ways=1 is not a whole number from 2"):
        Setting(ways=1)
    X[5, 1] = np.nan
    with pytest.raises(VidgenError, match="clip 'c5' are not finite"):
        score_few_shot(FEW_SHOT_PROBES["knn"], X, make_task(y, split, ids=[f"c{i}" for i in range(len(y))]), FEW)


def test_every_setting_is_checked_before_a_feature_is_read_and_counts_of_classes_are_said(make_bank, monkeypatch):
    y = np.repeat(["ring", "star", "cross", "circle"], [14, 8, 2, 1])
    split = np.repeat(["train", "test", "train", "test", "train"], [12, 2, 6, 2, 3])
    bank = make_bank({"raw_pixels": np.zeros((len(y), 2))}, y, split)
    monkeypatch.setattr(FeatureBank, "X", None)
    some = [Setting(shots=1), Setting(shots=2)]
    check_few_shot(bank, "knn", some)
    counts = "'ring' 12, 'star' 6, 'cross' 2 and none to ask about, 'circle' 1 and none to ask about"
    with pytest.raises(VidgenError, match=rf"2-way 9-shot .* 1 of 4 have them \({counts}\)"):
        check_few_shot(bank, "knn", [*some, Setting(shots=9)])
    with pytest.raises(VidgenError, match="^settings are chosen on parts of train: 2-way 6-shot"):
        check_few_shot(bank, "knn", [*some, Setting(shots=6)])
    with pytest.raises(VidgenError, match="'class 8' 1 and none to ask about, 92 more"):
        many = np.array([f"class {i}" for i in range(1, 101)], dtype=object)
        draw_episodes(many, np.arange(100), np.arange(0), FEW, seed=0)
