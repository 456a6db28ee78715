"""The kinds of probes by name."""

from __future__ import annotations

from vidgen.representations.probes import attentive, recurrent
from vidgen.representations.probes import estimators as made
from vidgen.representations.probes.fitting import by_grid
from vidgen.representations.probes.selection import Probe, by_estimator

PROBES: dict[str, Probe] = {
    "knn": Probe(choices=made.NEIGHBOURS, predict=by_estimator(made.make_knn), fits=lambda k, n: k <= n),
    "linear": Probe(choices=made.INVERSE_PENALTIES, predict=by_estimator(made.make_linear)),
    "ridge": Probe(choices=made.PENALTIES, predict=by_estimator(made.make_ridge)),
    "centroid": Probe(choices=(None,), predict=by_estimator(made.make_centroid), goals=("class",)),
    "mlp": Probe(choices=made.DECAYS, predict=by_estimator(made.make_mlp)),
    "attentive": Probe(choices=attentive.SETTINGS, predict=by_grid(attentive.AttentiveGrid), takes="tokens"),
    "lstm": Probe(choices=recurrent.SETTINGS, predict=by_grid(recurrent.RecurrentGrid), takes="frames"),
}
MAJORITY = Probe(choices=(None,), predict=by_estimator(made.make_majority))
