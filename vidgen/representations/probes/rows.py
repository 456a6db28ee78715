"""Probes of a bank as rows of plain data, every baseline beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange, reduce
from jaxtyping import Float

from vidgen.errors import VidgenError
from vidgen.representations.augmentations import AUGMENTATIONS
from vidgen.representations.baselines import OF_NETWORKS, PIXEL_BASELINES, SHUFFLED, base_of, twin_of
from vidgen.representations.feature_keys import PARTS, parse_key
from vidgen.representations.probes.metrics import METRICS, difference_interval
from vidgen.representations.probes.registry import MAJORITY, PROBES
from vidgen.representations.probes.selection import Probe, ProbeScore, choose_and_score
from vidgen.representations.probes.task import ProbeTask, task_of

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

LATENTS = "tokenizer.latents"  # what a denoiser's layer has to add to


def probe_rows(
    bank: FeatureBank,
    kind: str = "knn",
    layers: Sequence[str] | None = None,
    *,
    task: str = "label",
    target_type: str | None = None,
    skip_unlabelled: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for every feature of the bank (or of `layers` and their baselines), and one for the majority class (or the
    mean). task, target_type, skip_unlabelled: see `task_of`.

    A row has layer, noise_level, pool, kind, task, metric, validation, test, ci, baseline, and: target_type, choice, split,
    classes, the number of clips and groups in train and test, and unlabelled clips that were left out; "mae" for
    numbers, in their unit; temporal_gain and its interval where the bank has the same layer of shuffled frames.
    Raises VidgenError for a kind that is not there, a bank that holds no task, or a layer that it lacks.
    """
    if kind not in PROBES:
        raise VidgenError(f"probe {kind!r} is unknown; choose one of {', '.join(PROBES)}")
    asked, probe = (
        task_of(bank, seed, name=task, target_type=target_type, skip_unlabelled=skip_unlabelled),
        PROBES[kind],
    )
    keys = chosen_keys(bank, layers)
    scores = {key: choose_and_score(probe, features_for(bank, key, probe), asked, seed=seed) for key in keys}
    rows = []
    for key, score in scores.items():
        row = describe(bank, key, kind, asked, score)
        if (twin := scores.get(twin_of(key, SHUFFLED))) is not None:
            metric, groups = METRICS[asked.target_type], asked.groups[asked.test]
            row["temporal_gain"] = score.test - twin.test
            row["temporal_gain_ci"] = list(difference_interval(metric, score.counts, twin.counts, groups, seed))
        rows.append(row)
    majority = choose_and_score(MAJORITY, np.zeros((len(bank), 1), np.float32), asked, seed=seed)
    name = "mean" if asked.target_type == "regression" else "majority"
    return [*rows, describe(bank, name, kind, asked, majority) | {"pool": None}]


def chosen_keys(bank: FeatureBank, layers: Sequence[str] | None) -> list[str]:
    """The bank's keys, or those of `layers` (layers or keys) and of what they are held against; none of views of clips."""
    keys = [key for key in bank.keys if not base_of(key).startswith(tuple(AUGMENTATIONS))]
    if layers is None:
        return keys
    for layer in layers:
        if not any(layer in names_of(key) for key in bank.keys):
            bank.find_key(layer)  # raises, with what is there
    twins = {twin_of(layer, prefix) for prefix in OF_NETWORKS for layer in layers}
    wanted = {*layers, *twins, LATENTS, *PIXEL_BASELINES}
    return [key for key in keys if wanted & names_of(key)]


def names_of(key: str) -> set[str]:
    """What a feature may be asked for by: its key or layer, in a joined bank also without the bank's name."""
    return {key, parse_key(key)[0], base_of(key), parse_key(base_of(key))[0]}


def features_for(bank: FeatureBank, key: str, probe: Probe) -> Float[np.ndarray, "n *axes c"]:
    """Features as the probe takes them: (n, c), tokens (n, l, c), or frames (n, t, c), their positions averaged. Pixels
    have no channels worth attending to: their tokens are whole frames.

    Raises VidgenError where the pool left too little.
    """
    if probe.takes == "vectors":
        return bank.X(key)
    x, pool = bank.tokens(key), pool_of(bank, key)
    if base_of(key) in PIXEL_BASELINES:
        return (
            rearrange(x, "n t ... -> n t (...)") if base_of(key) == "raw_pixels" else rearrange(x, "n ... -> n 1 (...)")
        )
    if x.ndim == 2 or (probe.takes == "frames" and pool == "temporal"):
        raise VidgenError(
            f"{bank.folder}: its pool {pool!r} left no {probe.takes}; extract with --pool none"
            + (" or spatial" if probe.takes == "frames" else "")
        )
    if probe.takes == "frames":
        return reduce(x, "n t ... c -> n t c", "mean") if x.ndim > 3 else x
    return rearrange(x, "n ... c -> n (...) c")


def is_model(layer: str) -> bool:
    """Whether a layer is of the model itself; all others are baselines."""
    return base_of(layer).startswith(PARTS)


def pool_of(bank: FeatureBank, layer: str) -> str | None:
    """The bank's pool for what comes from a network; pixels are not pooled."""
    if not is_model(layer) and not base_of(layer).startswith(OF_NETWORKS):
        return "none"
    pool = bank.meta.get("pool")
    return pool.get(layer.partition("/")[0]) if isinstance(pool, dict) else pool  # a joined bank's may differ


def describe(bank: FeatureBank, key: str, kind: str, task: ProbeTask, score: ProbeScore) -> dict[str, Any]:
    """A row of results, as plain data."""
    layer, level = parse_key(key)
    row = {
        "layer": layer,
        "tap": layer,
        "noise_level": level,
        "pool": pool_of(bank, layer),
        "kind": kind,
        "task": task.name,
        "target_type": task.target_type,
        "goal": task.target_type,  # its name before
        "metric": METRICS[task.target_type].name,
        "validation": score.validation,
        "test": score.test,
        "ci": list(score.ci),
        "baseline": not is_model(layer),
        "choice": list(score.choice) if isinstance(score.choice, tuple) else score.choice,
        "split": "given" if task.given else "drawn by group",
        "classes": task.classes,
        "train_clips": len(task.train),
        "test_clips": len(task.test),
        "train_groups": len(set(task.groups[task.train])),
        "test_groups": len(set(task.groups[task.test])),
        "unlabelled": task.unlabelled,
    }
    if task.target_type == "regression":
        row["mae"] = float(np.abs(score.predicted - task.y[task.test]).mean())
    return row
