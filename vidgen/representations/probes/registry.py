"""The kinds of probes by name: add one here, and every command and report has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidgen.representations.probes import attentive, estimators, recurrent
from vidgen.representations.probes.fitting import by_grid
from vidgen.representations.probes.selection import Estimator, Probe, by_estimator


def estimator_probe(
    make: Callable[[Any, str, int], Estimator], choices: tuple[Any, ...], *, few_shot: bool = True, **fields: Any
) -> Probe:
    """Return the probe of standardized estimators, which without their scaler learn from few shots too."""
    plain = by_estimator(lambda choice, target_type, seed: make(choice, target_type, seed)[-1])
    return Probe(choices=choices, predict=by_estimator(make), few_shot=plain if few_shot else None, **fields)


PROBES: dict[str, Probe] = {
    "knn": estimator_probe(estimators.make_knn, estimators.NEIGHBORS, fits=lambda k, n: k <= n),
    "linear": estimator_probe(estimators.make_linear, estimators.INVERSE_PENALTIES),
    "ridge": estimator_probe(estimators.make_ridge, estimators.PENALTIES),
    "centroid": estimator_probe(estimators.make_centroid, (None,), target_types=("class",)),
    "mlp": estimator_probe(estimators.make_mlp, estimators.DECAYS, few_shot=False),
    "attentive": Probe(choices=attentive.SETTINGS, predict=by_grid(attentive.AttentiveGrid), takes="tokens"),
    "lstm": Probe(choices=recurrent.SETTINGS, predict=by_grid(recurrent.RecurrentGrid), takes="frames"),
}
MAJORITY = Probe(choices=(None,), predict=by_estimator(estimators.make_majority))
