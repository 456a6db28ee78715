"""Weighted nearest neighbors against the formula itself, in float64."""

import numpy as np
import pytest

from vidgen.representations.probes.estimators import (
    WEIGHTED_NEIGHBORS,
    WeightedNeighbors,
    make_weighted_knn,
    predict_weighted_knn,
)
from vidgen.representations.probes.registry import PROBES


def draw(seed: int = 0):
    generator = np.random.default_rng(seed)
    words = generator.integers(0, 3, 60)
    X = (generator.normal(size=(60, 5)) + words[:, None] * [1, 0, 0, 0, 0]).astype(np.float32)
    return X, words, generator.normal(size=(20, 5)).astype(np.float32)


def by_formula(X, y, others, setting):
    """The weighted sum of rows of y (n, c) over the k nearest by cosine, over the sum of the weights."""
    X, others = X.astype(np.float64), others.astype(np.float64)
    if setting.standardized:
        mean, std = X.mean(0), X.std(0)
        X, others = (X - mean) / std, (others - mean) / std
    X, others = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (X, others))
    out = []
    for similarity in others @ X.T:
        nearest = np.argsort(-similarity)[: setting.k]
        weights = np.exp(similarity[nearest] / setting.temperature)
        out.append(weights @ y[nearest] / weights.sum())
    return np.array(out)


@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_votes_and_means_are_the_formula(k, temperature, standardized):
    (X, words, others), setting = draw(), WeightedNeighbors(k, temperature, standardized)
    votes = by_formula(X, np.eye(3)[words], others, setting)
    model = make_weighted_knn(setting, "class", 0).fit(X, words)
    np.testing.assert_allclose(model.predict_proba(others), votes, atol=1e-4)
    assert (model.predict(others) == votes.argmax(1)).all()
    numbers = X.sum(1)
    means = by_formula(X, numbers[:, None], others, setting)[:, 0]
    np.testing.assert_allclose(
        make_weighted_knn(setting, "regression", 0).fit(X, numbers).predict(others), means, atol=2e-3
    )


@pytest.mark.parametrize("target_type", ["class", "multilabel", "regression"])
def test_all_settings_at_once_predict_what_each_does_alone(target_type):
    (X, words, others) = draw()
    y = {"class": words.astype(str), "multilabel": np.eye(3, dtype=int)[words], "regression": X[:, :2] * [1, 3]}
    choices = [setting for setting in WEIGHTED_NEIGHBORS if setting.k <= len(X)]
    together = predict_weighted_knn(choices, X, y[target_type], others, target_type, 0)
    for setting, predictions in zip(choices, together, strict=True):
        alone = make_weighted_knn(setting, target_type, 0).fit(X, y[target_type]).predict(others)
        if target_type == "regression":
            np.testing.assert_allclose(predictions, alone, rtol=1e-6)
        else:
            np.testing.assert_array_equal(predictions, alone)


def test_settings_are_chosen_among_those_that_fit():
    probe = PROBES["weighted_knn"]
    assert {setting.standardized for setting in WEIGHTED_NEIGHBORS} == {True, False}
    assert WeightedNeighbors(20, 0.07, False) in probe.choices and not probe.fits(
        WeightedNeighbors(20, 0.07, False), 19
    )
    (X, words, others) = draw()
    choices = [setting for setting in probe.choices if probe.fits(setting, len(X))]
    predictions = probe.predict(choices, X, words, others, "class", 0)
    assert len(predictions) == len(choices) == 24 and all(len(row) == len(others) for row in predictions)
