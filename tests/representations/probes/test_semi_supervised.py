"""Clips without labels help where they show the classes, and are not asked for their labels."""

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.probes import make_task, semi_supervised
from vidgen.representations.probes.semi_supervised import (
    SUPERVISED,
    AugmentedFeatures,
    draw_labelled,
    fit_heads,
    head_logits,
    score_semi_supervised,
    semi_supervised_rows,
)

NONE = np.empty(0, np.int64)


def nuisances(n=180, seed=0, shown=1.5):
    """One feature of the class and eight of something else, which the strong view redraws and the weak one keeps; as
    (augmented, classes, splits)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.resize([0, 1], n))
    of_class = shown * (2 * y - 1)[:, None] + 0.5 * rng.normal(size=(n, 1))
    others, redrawn = rng.normal(size=(2, n, 8)) * 1.5
    parts = {"plain": others, "weak": others + 0.05 * rng.normal(size=others.shape), "strong": redrawn}
    augmented = AugmentedFeatures(
        **{name: torch.tensor(np.hstack([of_class, x]), dtype=torch.float32) for name, x in parts.items()}
    )
    split = np.array(["train", "train", "train", "val", "test", "test"])[np.arange(n) % 6]
    return augmented, np.array(["a", "b"], dtype=object)[y], split


def test_without_other_clips_the_head_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    augmented, y, _ = nuisances()
    targets, rows, decay = torch.from_numpy((y == "b").astype(int)), np.arange(60), 0.1
    W, b = fit_heads(augmented, rows, targets[:60], NONE, 2, [(decay, 1.0), (0.01, 1.0)])
    x = augmented.plain[:60]
    plain = LogisticRegression(C=2 / (60 * decay), max_iter=1000).fit(x.numpy(), y[:60])  # two heads, w and -w
    ours = head_logits(W, b, augmented.plain)[0].softmax(-1)[:, 1].numpy()
    np.testing.assert_allclose(ours, plain.predict_proba(augmented.plain.numpy())[:, 1], atol=0.02)
    (alone,) = (head_logits(*fit_heads(augmented, rows, targets[:60], NONE, 2, [SUPERVISED[0]]), augmented.plain),)
    torch.testing.assert_close(
        alone[0], head_logits(W, b, augmented.plain)[0]
    )  # heads of a batch do not know of each other


@pytest.mark.slow
def test_other_clips_teach_what_their_views_have_in_common():
    augmented, y, split = nuisances()
    both, alone = score_semi_supervised(augmented, make_task(y, split), NONE, each=3)
    assert both.test > 0.95 and both.test > alone.test + 0.05 and alone.test > 0.6
    assert both.choice[1] < 1.0 == alone.choice[1] and both.ci[0] < both.test <= both.ci[1]
    # a strong view that keeps what does not matter teaches nothing of it
    same = AugmentedFeatures(plain=augmented.plain, weak=augmented.weak, strong=augmented.weak)
    less, _ = score_semi_supervised(same, make_task(y, split), NONE, each=3)
    assert less.test < both.test - 0.03


@pytest.mark.slow
def test_noise_is_chance():
    augmented, y, split = nuisances(n=240, shown=0.0)
    both, alone = score_semi_supervised(augmented, make_task(y, split), NONE, each=5)
    assert abs(both.test - 0.5) < 0.15 and abs(alone.test - 0.5) < 0.15


def test_labels_are_drawn_by_class_and_the_rest_keep_theirs():
    y = np.array(list("aaaaabbbcc"), dtype=object)
    rows = np.array([0, 1, 2, 3, 5, 6, 8])
    drawn = draw_labelled(y, rows, 2, seed=0)
    assert set(drawn) <= set(rows) and [y[i] for i in drawn] == list("aabbc")
    assert draw_labelled(y, rows, 2, seed=0).tolist() == drawn.tolist()


def test_rows_say_what_was_learned_from(make_bank, monkeypatch):
    monkeypatch.setattr(semi_supervised, "STEPS", 60)
    augmented, y, split = nuisances(n=96)
    y = y.copy()
    y[[0, 6, 3]] = None  # of train, train, and val
    parts = {"tokenizer.latents": augmented.plain, "weak.tokenizer.latents": augmented.weak}
    parts |= {"strong.tokenizer.latents": augmented.strong, "random.tokenizer.latents": augmented.plain}
    parts = {key: x.numpy() for key, x in parts.items()}
    by_twos = np.repeat(split[::2], 2)
    bank = make_bank(parts, y, by_twos)
    rows = semi_supervised_rows(bank, labels_per_class=3, skip_unlabelled=True)
    assert [row["layer"] for row in rows] == ["tokenizer.latents", "majority"]  # the other has no views
    first = {"kind": "fixmatch", "labels_per_class": 3, "labelled": 6, "baseline": False, "metric": "accuracy"}
    assert rows[0] | first == rows[0] and {"validation", "test", "ci", "choice", "pool"} <= set(rows[0])
    assert rows[0]["gain"] == pytest.approx(rows[0]["test"] - rows[0]["labels_alone"]) and len(rows[0]["gain_ci"]) == 2
    free = sum(label is None and side == "train" for label, side in zip(y, by_twos, strict=True))
    assert rows[0]["others"] == rows[0]["train_clips"] - 6 + free and free > 0
    assert rows[1]["baseline"] and rows[1]["test"] < 0.7
    for other, line in (
        (bank, "has no views of 'random.tokenizer.latents' to learn from; extract with --views"),
        (
            make_bank({"raw_pixels": parts["tokenizer.latents"]}, y, by_twos, "bare"),
            "has no views of its clips to learn",
        ),
    ):
        with pytest.raises(VidgenError, match=line):
            layers = ["random.tokenizer.latents"] if other is bank else None
            semi_supervised_rows(other, layers, labels_per_class=3, skip_unlabelled=True)
    with pytest.raises(VidgenError, match="clip '0.mp4' has no label"):
        semi_supervised_rows(bank, labels_per_class=3)
    with pytest.raises(VidgenError, match="0 labels of a class teach nothing"):
        semi_supervised_rows(bank, labels_per_class=0)


def test_many_features_become_their_principal_components(make_bank):
    """An exact change of basis where there are no more clips than components."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 300))
    bank = make_bank({"raw_pixels": x, "weak.raw_pixels": x, "strong.raw_pixels": x}, ["a", "b"] * 20)
    rows = np.arange(40)
    augmented = semi_supervised.read_augmented(bank, "raw_pixels", rows, bank.ids)
    scaled = (x - x.mean(0)) / x.std(0)
    assert augmented.plain.shape[1] <= 256
    np.testing.assert_allclose(augmented.plain @ augmented.plain.T, scaled @ scaled.T, atol=1e-2)
