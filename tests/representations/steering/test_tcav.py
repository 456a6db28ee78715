"""Concepts that are planted are significant, random ones are not, and gradients are those of the logit."""

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.probes.estimators import make_mlp
from vidgen.representations.steering.tcav import ConceptTest, concept_rows, logit_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 12)).astype(np.float32)
# a logit that grows with channel 0, up to a curvature, and falls with channel 1
GRADIENTS = np.zeros((60, 12))
GRADIENTS[:, 0] = 1 + 0.2 * RNG.normal(size=60)
GRADIENTS[:, 1] = -0.8
GRADIENTS[:, 2:] = 0.15 * RNG.normal(size=(60, 10))
TEST = ConceptTest(X=X, gradients=GRADIENTS, size=40, sets=12)


@pytest.mark.parametrize("channel, share", [(0, 1), (1, 0)])
def test_a_planted_concept_is_significant(channel, share):
    one = TEST(np.flatnonzero(X[:, channel] > 1.0))
    assert one.share == pytest.approx(share, abs=0.02) and one.p < 0.02
    assert (one.cosine > 0.5) if share else (one.cosine < -0.3)
    assert abs(one.random) < 0.1


@pytest.mark.slow
def test_random_concepts_are_insignificant_as_often_as_they_should_be():
    from scipy.stats import ttest_ind

    rng = np.random.default_rng(1)
    drawn = [rng.choice(400, 40, replace=False) for _ in range(40)]
    assert np.mean(np.array([TEST(rows).p for rows in drawn]) < 0.05) <= 0.1
    assert TEST(np.flatnonzero(X[:, 7] > 1.0)).p > 0.05
    # the same clips with one counterpart after the other, each taken for another draw of the concept, as in the paper
    shares = [[(TEST.cosines(rows, other) > 0).mean() for other in TEST.counterparts] for rows in drawn[:12]]
    nothing = [(TEST.cosines(rows, TEST.counterparts[0]) > 0).mean() for rows in drawn[12:]]
    assert np.mean([ttest_ind(mine, nothing).pvalue < 0.05 for mine in shares]) > 0.3


def test_the_p_of_one_against_a_sample_is_crawford_and_howells():
    from scipy.stats import t

    rows = np.flatnonzero(X[:, 3] > 0.8)
    one, n = TEST(rows), TEST.sets
    statistic = (one.cosine - one.random) / (one.spread * np.sqrt(1 + 1 / n))
    assert one.p == pytest.approx(2 * t.sf(abs(statistic), n - 1))


@pytest.mark.parametrize("classes", [2, 3])
def test_gradients_are_those_of_the_logit(classes):
    y = np.array([f"c{i}" for i in np.digitize(X[:, 0], [0.0, 0.7][: classes - 1])])
    fitted = make_mlp(1e-2, "class", 0)
    fitted[-1].set_params(max_iter=20, hidden_layer_sizes=(16,))
    with pytest.warns(UserWarning, match="converged"):
        fitted.fit(4 * X + 1, y)
    inputs = (4 * X[:5] + 1).astype(np.float64)

    def logit(x, k):
        chances = np.log(fitted.predict_proba(x))
        return chances[:, k] - chances[:, 0] if k else chances[:, 0] - chances[:, 1]

    for k in range(1, classes):
        ours = logit_gradients(fitted, inputs, f"c{k}")
        if classes > 2:  # a softmax knows logits up to what they share: differences of two
            ours = ours - logit_gradients(fitted, inputs, "c0")
        numeric = [
            (logit(inputs + 1e-6 * np.eye(12)[i], k) - logit(inputs - 1e-6 * np.eye(12)[i], k)) / 2e-6
            for i in range(12)
        ]
        np.testing.assert_allclose(ours, np.stack(numeric, axis=1), atol=1e-5)
    if classes == 2:
        np.testing.assert_array_equal(logit_gradients(fitted, inputs, "c0"), -logit_gradients(fitted, inputs, "c1"))


def write_bank(folder):
    """Class "up" where channel 0 is high; concept "hot" is channel 0 too, and "odd" is nothing."""
    rng = np.random.default_rng(5)
    rows = [
        BankRow(
            id=str(i), split="train" if i < 300 else "test", label="up" if X[i, 0] > 0.3 else "down",
            labels={"heat": "hot" if X[i, 0] + 0.3 * rng.normal() > 0.6 else "cold", "rare": "yes" if i < 3 else "no",
                    "parity": "odd" if i % 2 else "even", "scarce": "yes" if i % 66 == 65 else "no",
                    "weight": f"{X[i, 2]:.3f}"},
        )
        for i in range(400)
    ]  # fmt: skip
    with BankWriter(folder, {"pool": "mean"}, shard_rows=1000) as writer:
        writer.add(rows, {"tokenizer.latents": torch.from_numpy(X)})
    return FeatureBank.load(folder)


@pytest.mark.slow
def test_concepts_of_a_bank(tmp_path):
    bank = write_bank(tmp_path / "bank")
    rows = concept_rows(bank, "tokenizer.latents", "label", "up", ["heat", "parity", "rare"], sets=10)
    by = {row["concept"]: row for row in rows}
    assert rows[0]["concept"] == "label=up" and rows[0]["baseline"] and rows[0]["share"] > 0.9
    assert "rare=yes" not in by and "rare=no" in by  # three clips show no concept
    assert by["heat=hot"]["share"] > 0.9 and by["heat=cold"]["share"] < 0.1
    assert rows[0]["significant"] and by["heat=hot"]["significant"] and not by["parity=odd"]["significant"]
    assert rows[0]["accuracy"] > 0.85
    for words, line in (
        (("label", "up", ["mood"]), "no words 'mood'"),
        (("label", "up", ["weight"]), "no words 'weight'"),
        (("label", "sideways", ["heat"]), "'label' is never 'sideways'"),
        (("weight", "1", ["heat"]), "has no classes"),
        (("scarce", "yes", ["heat"]), "fewer than 8 clips show scarce=yes"),
        (("label", "up", []), "fewer than 8 clips show any concept in"),
    ):
        with pytest.raises(VidgenError, match=line):
            concept_rows(bank, "tokenizer.latents", *words)
