"""Probes that are scikit-learn's estimators, on features standardized on what is fitted."""

from __future__ import annotations

from functools import partial
from itertools import product, starmap
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vidgen.representations.probes.selection import Estimator

NEIGHBORS = (1, 3, 5, 10, 20)
INVERSE_PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)  # from much to little, so that much wins among equals
PENALTIES = (1e4, 1e3, 100.0, 10.0, 1.0, 0.1)
DECAYS = (1.0, 1e-2, 1e-4)
HIDDEN = 256
MAX_ITER = 300


def standardized(estimator: Estimator, *, wide: bool = False) -> Estimator:
    """Return the estimator behind a StandardScaler.

    wide: on float64 features, for normal equations, which square the condition number. float32 does not bear that.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    widen = [FunctionTransformer(np.asarray, kw_args={"dtype": np.float64})] if wide else []
    return make_pipeline(*widen, StandardScaler(), estimator)


def make_knn(k: int, target_type: str, seed: int) -> Estimator:
    """Return k nearest neighbors by cosine: their vote, or the mean of their numbers."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    kind = KNeighborsRegressor if target_type == "regression" else KNeighborsClassifier
    return standardized(kind(n_neighbors=k, metric="cosine"))


class WeightedNeighbors(NamedTuple):
    """Setting of `make_weighted_knn`: neighbors, temperature, and whether features are standardized first."""

    k: int
    temperature: float
    standardized: bool


# The first fits any number of clips.
WEIGHTED_NEIGHBORS = tuple(
    starmap(WeightedNeighbors, product((1, 10, 20, 50, 100, 200), (0.07, 0.02, 0.2), (False, True)))
)


def similarity_weights(distances: Float[np.ndarray, "n k"], temperature: float) -> Float[np.ndarray, "n k"]:
    """Return exp(similarity / temperature) of cosine distances, over the largest of each row."""
    return np.exp((distances.min(axis=1, keepdims=True) - distances.astype(np.float64)) / temperature)


def make_weighted_knn(setting: WeightedNeighbors, target_type: str, seed: int) -> Estimator:
    """Return k nearest neighbors by cosine that weigh exp(similarity / temperature): their vote, or mean of numbers.

    From Wu et al. 2018, section 3.4; DINO is evaluated so, at 0.07.
    """
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline

    kind = KNeighborsRegressor if target_type == "regression" else KNeighborsClassifier
    weights = partial(similarity_weights, temperature=setting.temperature)
    estimator = kind(n_neighbors=setting.k, metric="cosine", weights=weights)
    return standardized(estimator) if setting.standardized else make_pipeline(estimator)


def make_linear(c: float, target_type: str, seed: int) -> Estimator:
    """Return logistic regression with an L2 penalty of 1 / c, one for every word of a set; for numbers, least squares
    with that penalty."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    if target_type == "regression":
        return make_ridge(1.0 / c, target_type, seed)
    logistic = LogisticRegression(C=c, max_iter=1000)
    return standardized(OneVsRestClassifier(logistic) if target_type == "multilabel" else logistic)


def make_ridge(penalty: float, target_type: str, seed: int) -> Estimator:
    """Return least squares with an L2 penalty (Hoerl & Kennard 1970), to the numbers, or to -1 and 1 of classes."""
    from sklearn.linear_model import Ridge, RidgeClassifier

    kind = Ridge if target_type == "regression" else RidgeClassifier
    return standardized(kind(alpha=penalty), wide=True)


def make_centroid(_: Any, target_type: str, seed: int) -> Estimator:
    """Return a classifier that predicts the class whose mean is nearest."""
    from sklearn.neighbors import NearestCentroid

    return standardized(NearestCentroid())


def make_mlp(decay: float, target_type: str, seed: int) -> Estimator:
    """Return a perceptron with one hidden layer of 256 ReLU, trained by Adam with an L2 penalty."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPRegressor if target_type == "regression" else MLPClassifier
    return standardized(kind(hidden_layer_sizes=(HIDDEN,), alpha=decay, max_iter=MAX_ITER, random_state=seed))


def make_majority(_: Any, target_type: str, seed: int) -> Estimator:
    """Return an estimator that predicts the most frequent class, or the mean, whatever the features."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyRegressor() if target_type == "regression" else DummyClassifier(strategy="most_frequent")
