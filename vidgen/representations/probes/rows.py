"""Probes of a bank as rows of plain data, every baseline beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange, reduce
from jaxtyping import Float

from vidgen.deprecation import renamed_keywords
from vidgen.errors import VidgenError
from vidgen.representations.augmentations import AUGMENTATIONS
from vidgen.representations.baselines import OF_NETWORKS, PIXEL_BASELINES, SHUFFLED, base_of, twin_of
from vidgen.representations.feature_keys import parse_key
from vidgen.representations.probes.metrics import METRICS, difference_interval
from vidgen.representations.probes.registry import MAJORITY, PROBES
from vidgen.representations.probes.results import describe_score, is_model, pool_of
from vidgen.representations.probes.selection import Probe, choose_and_score
from vidgen.representations.probes.task import ProbeTask, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

__all__ = ["chosen_keys", "features_for", "is_model", "majority_row", "pool_of", "probe_rows"]
LATENTS = "tokenizer.latents"  # what a denoiser's layer has to add to


@renamed_keywords(taps="layers", goal="target_type")
def probe_rows(
    bank: FeatureBank,
    kind: str = "knn",
    layers: Sequence[str] | None = None,
    *,
    task: str = "label",
    target_type: str | None = None,
    skip_unlabelled: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return one row for every feature of the bank, and one for the majority class (or the mean).

    A row has layer, noise_level, pool, kind, task, metric, validation, test, ci, baseline, and: target_type, choice,
    split, classes, the number of clips and groups in train and test, and unlabelled clips that were left out; "mae" for
    numbers, in their unit; temporal_gain and its interval where the bank has the same layer of shuffled frames.
    Raises VidgenError for a kind that is not there, a bank that holds no task, or a layer that it lacks.

    Args:
        bank: the features, and the labels.
        kind: one of `PROBES`.
        layers: layers or keys that rows are wanted of, which their baselines stand beside; None takes all.
        task: the name of the labels.
        target_type: see `read_column`.
        skip_unlabelled: leaves out clips without a label.
        seed: of a split that is drawn, of intervals, and of probes that are trained from random weights.
        progress: called with the number of features that are done, and of all.
    """
    if kind not in PROBES:
        raise VidgenError(f"probe {kind!r} is unknown; choose one of {', '.join(PROBES)}")
    probe = PROBES[kind]
    labels = task_of(bank, seed, name=task, target_type=target_type, skip_unlabelled=skip_unlabelled)
    keys = counted(chosen_keys(bank, layers), progress)
    scores = {key: choose_and_score(probe, features_for(bank, key, probe), labels, seed=seed) for key in keys}
    rows = []
    for key, score in scores.items():
        row = describe_score(bank, key, kind, labels, score)
        if (twin := scores.get(twin_of(key, SHUFFLED))) is not None:
            metric, groups = METRICS[labels.target_type], labels.groups[labels.test]
            row["temporal_gain"] = score.test - twin.test
            ci = difference_interval(metric, score.counts, twin.counts, groups, seed)
            row["temporal_gain_ci"] = ci and list(ci)
        rows.append(row)
    return [*rows, majority_row(bank, kind, labels, seed)]


def majority_row(bank: FeatureBank, kind: str, task: ProbeTask, seed: int, **others: Any) -> dict[str, Any]:
    """Return the row of the majority class, or of the mean of numbers."""
    score = choose_and_score(MAJORITY, np.zeros((len(bank), 1), np.float32), task, seed=seed)
    name = "mean" if task.target_type == "regression" else "majority"
    return describe_score(bank, name, kind, task, score, **others)


def chosen_keys(bank: FeatureBank, layers: Sequence[str] | None) -> list[str]:
    """Return the bank's keys, or those of `layers` (layers or keys) and of their baselines; no augmented clips."""
    keys = [key for key in bank.keys if not base_of(key).startswith(tuple(AUGMENTATIONS))]
    if layers is None:
        return keys
    for layer in layers:
        if not any(layer in names_of(key) for key in bank.keys):
            bank.find_key(layer)  # raises, with what is there
    twins = {twin_of(layer, prefix) for prefix in OF_NETWORKS for layer in layers}
    names = {*layers, *twins, LATENTS, *PIXEL_BASELINES}
    return [key for key in keys if names & names_of(key)]


def counted(keys: Sequence[str], progress: Callable[[int, int], None] | None) -> Iterator[str]:
    """Yield the keys, and call `progress` with how many of them are done, and with their number."""
    for number, key in enumerate(keys, 1):
        yield key
        if progress is not None:
            progress(number, len(keys))


def names_of(key: str) -> set[str]:
    """Return what a feature may be asked for by: its key or layer, in a merged bank also without the bank's name."""
    return {key, parse_key(key)[0], base_of(key), parse_key(base_of(key))[0]}


def features_for(bank: FeatureBank, key: str, probe: Probe) -> Float[np.ndarray, "n *axes c"]:
    """Return features as the probe takes them: (n, c), tokens (n, l, c), or frames (n, t, c), averaged over positions.

    Pixels have no channels worth attending to: their tokens are whole frames. Raises VidgenError where the pool left
    too little.
    """
    if probe.takes == "vectors":
        return bank.X(key)
    x, pool = bank.tokens(key), pool_of(bank, key)
    if base_of(key) in PIXEL_BASELINES:
        return rearrange(x, "n t ... -> n t (...)" if base_of(key) == "raw_pixels" else "n ... -> n 1 (...)")
    if x.ndim == 2 or (probe.takes == "frames" and pool == "temporal"):
        raise VidgenError(
            f"{bank.folder}: its pool {pool!r} left no {probe.takes}; extract with --pool none"
            + (" or spatial" if probe.takes == "frames" else "")
        )
    if probe.takes == "frames":
        return reduce(x, "n t ... c -> n t c", "mean") if x.ndim > 3 else x
    return rearrange(x, "n ... c -> n (...) c")
