"""Estimators of scikit-learn as probes: what ends a command ends their training."""

import signal
import warnings

import numpy as np
import pytest

from vidgen.errors import Interrupted
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
