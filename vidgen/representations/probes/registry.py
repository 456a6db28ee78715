"""The kinds of probes by name.

To add one, write it here and its name in `Kind` of scripts/cli/probe_protocols.py, which lists the names for `--kind`
(a test holds the two equal).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidgen.representations.probes import attentive, estimators, recurrent
from vidgen.representations.probes.fitting import by_grid, by_stacked_grid
from vidgen.representations.probes.selection import Estimator, Predict, Probe, by_estimator


def estimator_probe(
    make: Callable[[Any, str, int], Estimator],
    choices: tuple[Any, ...],
    *,
    predict: Predict | None = None,
    few_shot: bool | Predict = True,
    **fields: Any,
) -> Probe:
    """Return the probe of standardized estimators.

    Its few-shot version uses the same estimator without standardization. predict and few_shot: faster ways to the
    predictions of all of them.
    """
    plain = by_estimator(lambda choice, target_type, seed: make(choice, target_type, seed)[-1])
    few = few_shot if callable(few_shot) else plain if few_shot else None
    return Probe(choices=choices, predict=predict or by_estimator(make), few_shot=few, **fields)


PROBES: dict[str, Probe] = {
    "knn": estimator_probe(estimators.make_knn, estimators.NEIGHBORS, fits=lambda k, n: k <= n),
    "weighted_knn": estimator_probe(
        estimators.make_weighted_knn,
        estimators.WEIGHTED_NEIGHBORS,
        predict=estimators.predict_weighted_knn,
        fits=lambda setting, n: setting.k <= n,
    ),
    "linear": estimator_probe(
        estimators.make_linear,
        estimators.INVERSE_PENALTIES,
        predict=estimators.predict_linear,
        few_shot=estimators.predict_logistic,
    ),
    "ridge": estimator_probe(estimators.make_ridge, estimators.PENALTIES),
    "centroid": estimator_probe(estimators.make_centroid, (None,), target_types=("class",)),
    "mlp": estimator_probe(estimators.make_mlp, estimators.DECAYS, few_shot=False),
    "attentive": Probe(
        choices=attentive.SETTINGS,
        predict=by_grid(attentive.AttentiveGrid),
        predict_folds=by_stacked_grid(attentive.AttentiveGrid),
        takes="tokens",
        refine=attentive.other_decays,
    ),
    "lstm": Probe(choices=recurrent.SETTINGS, predict=by_grid(recurrent.RecurrentGrid), takes="frames"),
}
MAJORITY = Probe(choices=(None,), predict=by_estimator(estimators.make_majority))
