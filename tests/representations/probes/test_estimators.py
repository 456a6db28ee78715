"""Estimators of scikit-learn as probes: what ends a command ends their training, and few wide clips are no trouble."""

import signal
import warnings

import numpy as np
import pytest

from vidgen.errors import Interrupted
from vidgen.representations.probes.estimators import in_span, make_linear, predict_linear, predict_logistic
from vidgen.representations.probes.registry import PROBES


@pytest.mark.parametrize("target_type", ["class", "multilabel", "regression"])
def test_a_perceptron_that_is_interrupted_gives_no_predictions(target_type, monkeypatch) -> None:
    from sklearn.neural_network import _multilayer_perceptron as module

    def interrupt(*_, **__):
        raise Interrupted(signal.SIGTERM, "ended by SIGTERM")

    X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    y = {
        "class": np.array(["a", "b", "c"] * 4),
        "multilabel": np.eye(3, dtype=int).repeat(4, 0),
        "regression": X[:, :2],
    }
    predict = PROBES["mlp"].predict
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as probes do, for ends of training that do not settle
        (predictions,) = predict([1e-2], X, y[target_type], X, target_type, 0)
        assert len(predictions) == len(X)
        monkeypatch.setattr(module, "gen_batches", interrupt)
        with pytest.raises(Interrupted, match="ended by SIGTERM"):
            predict([1e-2], X, y[target_type], X, target_type, 0)


@pytest.mark.parametrize("target_type", ["class", "multilabel"])
def test_logistic_regression_on_few_wide_clips_is_scikit_learns(target_type) -> None:
    rng = np.random.default_rng(0)
    X, others = rng.normal(size=(12, 80)), rng.normal(size=(40, 80))
    X[:, 3] = others[:, 3] = 1.0  # a channel without spread
    y = np.resize(["a", "b", "c"], 12) if target_type == "class" else rng.integers(0, 2, (12, 2))
    turned, _ = in_span(X, others)
    assert turned.shape == (12, 12) and in_span(X[:, :40], others)[0].shape == (12, 40)
    np.testing.assert_allclose(turned @ turned.T, X @ X.T, atol=1e-12)
    choices = (1e-3, 1.0, 100.0)
    for choice, labels in zip(choices, predict_linear(choices, X, y, others, target_type, 0), strict=True):
        np.testing.assert_array_equal(labels, make_linear(choice, target_type, 0).fit(X, y).predict(others))
    for choice, labels in zip(choices, predict_logistic(choices, X, y, others, target_type, 0), strict=True):
        np.testing.assert_array_equal(labels, make_linear(choice, target_type, 0)[-1].fit(X, y).predict(others))
