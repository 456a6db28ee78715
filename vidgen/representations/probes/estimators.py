"""Probes that are scikit-learn's estimators, on features standardized on what is fitted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
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
WIDE = 4  # channels a clip from which features are turned to the span of the clips; a guess


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


def predict_weighted_knn(
    choices: Sequence[WeightedNeighbors],
    X: Float[np.ndarray, "n c"],
    y: np.ndarray,
    others: Float[np.ndarray, "m c"],
    target_type: str,
    seed: int,
) -> list[np.ndarray]:
    """Return `Probe.predict` of `make_weighted_knn`: distances are computed once with features as they are and once
    standardized, and every setting votes among the nearest of these."""
    from scipy.sparse import csr_matrix, identity

    models = [make_weighted_knn(choice, target_type, seed) for choice in choices]
    graphs: dict[bool, csr_matrix] = {}  # the largest number of neighbors that any setting asks for, nearest first
    for choice, model in sorted(zip(choices, models, strict=True), key=lambda pair: -pair[0].k):
        if choice.standardized not in graphs:
            model.fit(X, y)
            queries = model[:-1].transform(others) if choice.standardized else others
            graphs[choice.standardized] = model[-1].kneighbors_graph(queries, mode="distance")
    among = identity(len(X), format="csr")  # distances among the clips that are fitted, of which only the number counts
    return [
        model[-1].set_params(metric="precomputed").fit(among, y).predict(graphs[choice.standardized])
        for choice, model in zip(choices, models, strict=True)
    ]


def make_linear(c: float, target_type: str, seed: int) -> Estimator:
    """Return logistic regression with an L2 penalty of 1 / c, one for every word of a set; for numbers, least squares
    with that penalty."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    if target_type == "regression":
        return make_ridge(1.0 / c, target_type, seed)
    logistic = LogisticRegression(C=c, max_iter=1000)
    return standardized(OneVsRestClassifier(logistic) if target_type == "multilabel" else logistic)


def in_span(
    X: Float[np.ndarray, "n c"], others: Float[np.ndarray, "m c"]
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "m k"]]:
    """Return features along an orthonormal basis of what the rows of X span, where X has far more channels than rows.

    Weights with an L2 penalty lie in that span (the representer theorem), so fits and predictions are the same, up to
    rounding, and take a fraction of the time: tens of seconds for the pixels of 24 clips.
    """
    if X.shape[1] < WIDE * len(X):
        return X, others
    basis, _ = np.linalg.qr(X.T)
    return X @ basis, others @ basis


def predict_logistic(
    choices: Sequence[float],
    X: Float[np.ndarray, "n c"],
    y: np.ndarray,
    others: Float[np.ndarray, "m c"],
    target_type: str,
    seed: int,
) -> list[np.ndarray]:
    """Return `Probe.predict` of `make_linear` for classes and words, on features as they are."""
    X, others = in_span(X, others)
    return [make_linear(choice, target_type, seed)[-1].fit(X, y).predict(others) for choice in choices]


def predict_linear(
    choices: Sequence[float],
    X: Float[np.ndarray, "n c"],
    y: np.ndarray,
    others: Float[np.ndarray, "m c"],
    target_type: str,
    seed: int,
) -> list[np.ndarray]:
    """Return `Probe.predict` of `make_linear`, on features that are standardized once."""
    from sklearn.preprocessing import StandardScaler

    if target_type == "regression":  # in closed form already
        return [make_linear(choice, target_type, seed).fit(X, y).predict(others) for choice in choices]
    scaler = StandardScaler().fit(X)
    return predict_logistic(choices, scaler.transform(X), y, scaler.transform(others), target_type, seed)


def make_ridge(penalty: float, target_type: str, seed: int) -> Estimator:
    """Return least squares with an L2 penalty (Hoerl & Kennard 1970), to the numbers, or to -1 and 1 of classes."""
    from sklearn.linear_model import Ridge, RidgeClassifier

    kind = Ridge if target_type == "regression" else RidgeClassifier
    return standardized(kind(alpha=penalty), wide=True)


def make_centroid(_: Any, target_type: str, seed: int) -> Estimator:
    """Return a classifier that predicts the class whose mean is nearest."""
    from sklearn.neighbors import NearestCentroid

    return standardized(NearestCentroid())


def interruptible(kind: type) -> type:
    """Return a class of scikit-learn's perceptrons that Ctrl-C ends. As they are, they take it for the end of their
    training, and go on with weights that are half trained."""

    class Interruptible(kind):
        def fit(self, X: np.ndarray, y: np.ndarray) -> Estimator:
            """Fit as the class does. Raises the KeyboardInterrupt that comes meanwhile."""
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Training interrupted")
                try:
                    return super().fit(X, y)
                except UserWarning as warning:
                    raise (warning.__context__ or warning) from None

    return Interruptible


def make_mlp(decay: float, target_type: str, seed: int) -> Estimator:
    """Return a perceptron with one hidden layer of 256 ReLU, trained by Adam with an L2 penalty."""
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kind = MLPRegressor if target_type == "regression" else MLPClassifier
    kind = interruptible(kind)
    return standardized(kind(hidden_layer_sizes=(HIDDEN,), alpha=decay, max_iter=MAX_ITER, random_state=seed))


def make_majority(_: Any, target_type: str, seed: int) -> Estimator:
    """Return an estimator that predicts the most frequent class, or the mean, whatever the features."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    return DummyRegressor() if target_type == "regression" else DummyClassifier(strategy="most_frequent")
