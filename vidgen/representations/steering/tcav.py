"""TCAV, testing with concept activation vectors (Kim et al. 2018): does a probe's logit of a class grow with a
concept?"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vidgen.errors import VidgenError
from vidgen.representations.probes.estimators import make_mlp, make_ridge
from vidgen.representations.probes.selection import Estimator, check_finite
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.probes.task import ProbeTask, read_column, task_of
from vidgen.representations.search.retrieval import unit
from vidgen.representations.steering.directions import read_labels, values_of, weights_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

SETS, MAX_SIZE, MIN_SIZE = 30, 50, 8  # random sets; clips of a set at most and at least
DECAY, SIGNIFICANCE = 1e-2, 0.05


@dataclass(frozen=True, kw_only=True)
class ConceptScore:
    """How sensitive a class is to a concept.

    share: of the class's clips, those whose logit grows along the concept. cosine: mean cosine of the logit's gradients
    and the concept. Both are means over counterparts. random and spread: mean and standard deviation of the cosine of
    random concepts. p: of the two-sided t-test of one cosine against those.
    """

    share: float
    cosine: float
    random: float
    spread: float
    p: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptTest:
    """A test of concepts, called with the rows of one.

    X (n, c): features that concepts and random sets are drawn from. gradients (m, c): of the class's logit at each of
    its clips. size: clips of every set. sets: so many random counterparts, and as many random concepts.

    A concept's vector is the normal of a linear classifier between its clips and a random counterpart's. Two things
    differ from the original test. Repeating it with other counterparts shows how much the vector owes to them, but not
    how much to the concept's own few clips, which are the same each time: clips chosen at random pass for a concept.
    So a concept is compared with random concepts, each with all counterparts: a t-test of one against a sample
    (Crawford & Howell 1998). And it is the cosine that is tested, not the share: random concepts, too, have shares near
    0 and 1, beyond which no concept can go.
    """

    X: Float[np.ndarray, "n c"]
    gradients: Float[np.ndarray, "m c"]
    size: int
    sets: int = SETS
    seed: int = 0

    @cached_property
    def counterparts(self) -> list[Int[np.ndarray, " k"]]:
        """Rows of the random counterparts."""
        return [self._draw(np.arange(len(self.X)), "counterpart", i) for i in range(self.sets)]

    @cached_property
    def random(self) -> Float[np.ndarray, " s"]:
        """Cosines of random concepts."""
        drawn = [self._draw(np.arange(len(self.X)), "concept", i) for i in range(self.sets)]
        return np.array([self.measure(rows)[1] for rows in drawn])

    def __call__(self, rows: Int[np.ndarray, " k"]) -> ConceptScore:
        """Return the score of the concept that these rows of X show; `size` of them, drawn, where there are more."""
        from scipy.stats import ttest_ind

        share, cosine = self.measure(self._draw(rows, "shown", 0) if len(rows) > self.size else rows)
        others = self.random
        # of a sample of one, the pooled variance is that of the others
        p = float(ttest_ind([cosine], others).pvalue) if others.std() > 0 else float(cosine == others[0])
        spread = float(others.std(ddof=1))
        return ConceptScore(share=share, cosine=cosine, random=float(others.mean()), spread=spread, p=p)

    def measure(self, rows: Int[np.ndarray, " k"]) -> tuple[float, float]:
        """Return the share of gradients along the concept (Kim et al., equation 3), and their mean cosine with it."""
        along = np.stack([self.cosines(rows, other) for other in self.counterparts])
        return float((along > 0).mean()), float(along.mean())

    def cosines(self, rows: Int[np.ndarray, " k"], other: Int[np.ndarray, " k"]) -> Float[np.ndarray, " m"]:
        """Return the cosine of every gradient with the vector between two sets."""
        other = np.setdiff1d(other, rows)  # clips in both sets tell nothing apart
        sides = np.r_[np.ones(len(rows), bool), np.zeros(len(other), bool)]
        vector = weights_of(make_ridge(1.0, "class", 0).fit(self.X[np.r_[rows, other]], sides))
        return unit(self.gradients) @ (vector / np.linalg.norm(vector))

    def _draw(self, rows: Int[np.ndarray, " n"], kind: str, number: int) -> Int[np.ndarray, " k"]:
        kinds = ("counterpart", "concept", "shown")
        rng = np.random.default_rng((self.seed, kinds.index(kind), number))
        return rng.choice(rows, min(self.size, len(rows)), replace=False)


def logit_gradients(fitted: Estimator, X: Float[np.ndarray, "m c"], value: Any) -> Float[np.ndarray, "m c"]:
    """Return gradients of a class's logit by X: of class `value` of a standardized perceptron with one hidden layer of
    ReLU."""
    scaler, mlp = fitted[-2], fitted[-1]
    (first, last), (bias, _) = mlp.coefs_, mlp.intercepts_
    number = list(mlp.classes_).index(value)
    # of two classes there is one logit, that of the second
    out = last[:, number] if last.shape[1] > 1 else last[:, 0] * (1 if number else -1)
    active = (scaler.transform(X) @ first + bias) > 0
    return (active * out) @ first.T / scaler.scale_


def concept_rows(
    bank: FeatureBank, key: str, task: str, value: str, columns: list[str], *, sets: int = SETS, seed: int = 0
) -> list[dict[str, Any]]:
    """Return a row for every value of `columns` that enough clips have: is a perceptron's logit of class `value` of
    `task`, fitted on the bank's features, sensitive to it? The class itself stands beside them, as a concept that must
    be significant.

    A row has concept, share, cosine, random, spread, p, significant (at 5%, divided by the number of concepts),
    clips, baseline; and of the probe: features, task, value, accuracy on the clips held out.
    Raises VidgenError for labels that are not there, or that too few clips have.

    Args:
        bank: the features, and the labels.
        key: of the feature.
        task: the name of the class's labels.
        value: the class.
        columns: names of the labels whose values are concepts.
        sets: random counterparts, and random concepts.
        seed: of the perceptron and of random sets.
    """
    labels = task_of(bank, seed, name=task, skip_unlabelled=True)
    if labels.target_type != "class":
        raise VidgenError(f"{task!r} has no classes; a concept is tested on the logit of a class")
    X = bank.X(key)
    check_finite(X, bank.ids)
    has_value, _ = read_labels(bank, task, value)
    clips = labels.test[has_value[labels.test] == 1]
    if len(clips) < 2 or not has_value[labels.train].any():
        raise VidgenError(f"{task!r} is {value!r} for {len(clips)} held-out clips; a concept is tested on two or more")
    probe, accuracy = fit_classifier(X, labels, seed)
    scaler = Standardizer.fit_blocks(lambda: [X])  # so that no channel counts for more than another
    gradients = logit_gradients(probe, X[clips], value) * scaler.std
    itself = f"{task}={value}"
    concepts = {itself: has_value == 1} | read_concepts(bank, columns)
    enough = {name: rows for name, has in concepts.items() if len(rows := np.flatnonzero(has)) >= MIN_SIZE}
    if itself not in enough or len(enough) < 2:
        few = itself if itself not in enough else f"any concept in {', '.join(columns)}"
        raise VidgenError(f"fewer than {MIN_SIZE} clips show {few}; extract more of them")
    test_of = cache(partial(ConceptTest, X=scaler.transform(X), gradients=gradients, sets=sets, seed=seed))
    about = {"features": key, "task": task, "value": value, "accuracy": accuracy}
    rows = []
    for name, numbers in enough.items():
        score = test_of(size=min(len(numbers), MAX_SIZE))(numbers)
        significant = score.p < SIGNIFICANCE / (len(enough) - 1)
        row = {"concept": name, **asdict(score), "significant": significant, "clips": len(numbers)}
        rows.append(row | {"baseline": name == itself} | about)
    return sorted(rows, key=lambda row: (not row["baseline"], row["p"]))


def fit_classifier(X: Float[np.ndarray, "n c"], labels: ProbeTask, seed: int) -> tuple[Estimator, float]:
    """Return a perceptron fitted on the training clips, and its accuracy on the test clips."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="sklearn", category=UserWarning)  # it need not settle
        probe = make_mlp(DECAY, "class", seed).fit(X[labels.train], labels.y[labels.train].astype(str))
    return probe, float(np.mean(probe.predict(X[labels.test]) == labels.y[labels.test].astype(str)))


def read_concepts(bank: FeatureBank, columns: list[str]) -> dict[str, Bool[np.ndarray, " n"]]:
    """Return which clips show each value of the columns. Raises VidgenError for columns that hold no words."""
    concepts = {}
    for column in columns:
        cells, target_type = read_column(bank.column(column), column) if column in bank.columns else ([], "class")
        if column not in bank.columns or target_type == "regression":
            raise VidgenError(f"{bank.folder} has no words {column!r}; it has {', '.join(bank.columns)}")
        for word in values_of(cells):
            concepts.setdefault(f"{column}={word}", read_labels(bank, column, word)[0] == 1)
    return concepts
