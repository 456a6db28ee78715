"""Directions that are planted are direction, in their length too."""

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.steering.directions import (
    direction_between,
    direction_of_number,
    direction_to_neighbors,
    fit_direction,
)

RNG = np.random.default_rng(0)
PLANTED = RNG.normal(size=10)
HAS = np.arange(1000) % 2 == 0
X = (3 + RNG.normal(size=(1000, 10)) + HAS[:, None] * PLANTED).astype(np.float32)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("way", ["probe", "mean"])
def test_a_planted_direction_is_recovered(way):
    direction = direction_between(X, HAS, way)
    assert cosine(direction.vector, PLANTED) > 0.98
    assert np.linalg.norm(direction.vector) == pytest.approx(np.linalg.norm(PLANTED), rel=0.06)
    assert direction.position(X[~HAS]).mean() == pytest.approx(0, abs=1e-4)
    assert direction.position(X[HAS]).mean() == pytest.approx(1, abs=1e-4)


def test_a_probe_turns_away_from_what_only_disturbs_and_means_do_not():
    """A channel that varies with another, and not with the label: its class means differ where the other's do."""
    noise = RNG.normal(size=(1000, 1)) * 5
    both = np.concatenate([X[:, :1] + noise, noise], axis=1).astype(np.float32)
    # telling classes apart needs the second channel, to take the noise away; the means differ in the first alone
    probe, mean = (direction_between(both, HAS, way).vector for way in ("probe", "mean"))
    assert abs(probe[1]) > 0.5 * abs(probe[0])
    assert mean[0] == pytest.approx(both[HAS, 0].mean() - both[~HAS, 0].mean(), rel=1e-4)


def test_numbers_grow_by_one_standard_deviation():
    weights = RNG.normal(size=10)
    y = X @ weights + 5
    direction = direction_of_number(X, y)
    assert float(weights @ direction.vector) == pytest.approx(y.std(), rel=0.01)
    assert direction.position(X).mean() == pytest.approx(0, abs=1e-4)


def test_neighbors_are_those_around():
    centers = np.array([[4.0, 0, 0], [0, 4, 0], [0, 0, 4]])
    rows = (np.repeat(centers, 20, axis=0) + 0.1 * RNG.normal(size=(60, 3))).astype(np.float32)
    query = np.array([0.2, 3.0, 0.1], np.float32)
    direction, near = direction_to_neighbors(rows, query, 20)
    assert sorted(near) == list(range(20, 40))
    np.testing.assert_allclose(query + direction.vector, rows[20:40].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(direction.position(np.stack([query, query + direction.vector])), [0, 1], atol=1e-5)


def write_bank(folder, split=True):
    rows = [
        BankRow(
            id=f"{i}", label="ab"[int(HAS[i])], split=("train" if i < 700 else "test") if split else None,
            labels={"speed": f"{X[i, 0]:.4f}", "words": '["x", "y"]' if HAS[i] else '["y"]'},
        )
        for i in range(len(X))
    ]  # fmt: skip
    with BankWriter(folder, {"pool": "mean"}, shard_rows=2000) as writer:
        writer.add(rows, {"tokenizer.latents": torch.from_numpy(X)})
    return FeatureBank.load(folder)


def test_directions_of_a_bank(tmp_path):
    bank = write_bank(tmp_path / "bank")
    direction = fit_direction(bank, "tokenizer.latents", "label", "b")
    assert direction.name == "label=b" and cosine(direction.vector, PLANTED) > 0.97
    assert 0.9 < direction.separation <= 1
    words = fit_direction(bank, "tokenizer.latents", "words", "x", way="mean")
    np.testing.assert_allclose(words.vector, X[:700][HAS[:700]].mean(0) - X[:700][~HAS[:700]].mean(0), rtol=1e-4)
    speed = fit_direction(bank, "tokenizer.latents", "speed", None)
    assert speed.vector[0] == pytest.approx(X[:700, 0].std(), rel=0.02) and speed.separation is None
    plain = write_bank(tmp_path / "plain", split=False)
    assert fit_direction(plain, "tokenizer.latents", "label", "b").separation is None
    for task, value, line in (
        ("mood", "b", "has no labels 'mood'; it has label, speed, words: name one by --task"),
        ("label", "c", "'label' is never 'c'; it is b, a|'label' is never 'c'; it is a, b"),
        ("label", None, "'label' holds no single numbers"),
        ("words", "y", "0 without; a direction needs two of each"),
    ):
        with pytest.raises(VidgenError, match=line):
            fit_direction(bank, "tokenizer.latents", task, value)
