"""Rows of results as plain data: what rows of all kinds of probes and of retrieval have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vidgen.representations.baselines import OF_NETWORKS, base_of
from vidgen.representations.feature_keys import PARTS, parse_key
from vidgen.representations.probes.metrics import METRICS
from vidgen.representations.probes.selection import ProbeScore
from vidgen.representations.probes.task import ProbeTask

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

CONSTANT = ("majority", "mean")  # probes that look at no features


def result_row(
    layer: str,
    noise_level: float | None,
    *,
    pool: str | None,
    kind: str,
    task: str,
    metric: str,
    test: float,
    ci: tuple[float, float] | None,
    baseline: bool,
    **others: Any,
) -> dict[str, Any]:
    """Return a row of results as plain data.

    Args:
        layer: the layer's name, or the name of what stands for one; "tap" in the row is the older key for it.
        noise_level: of the denoiser's layers; None for others.
        pool: what was done with the axes of the features; None where there are no features.
        kind: the kind of probe or search.
        task: the name of what was asked.
        metric: the name of what `test` measures.
        test: the score that is reported.
        ci: its 95% interval, if it has one.
        baseline: whether the row is there for others to be compared with.
        others: further entries of the row.
    """
    head = {"layer": layer, "tap": layer, "noise_level": noise_level, "pool": pool, "kind": kind, "task": task}
    return head | {"metric": metric, "test": test, "ci": ci and list(ci), "baseline": baseline} | others


def is_model(layer: str) -> bool:
    """Return whether a layer is of the model itself; all others are baselines."""
    return base_of(layer).startswith(PARTS)


def of_network(layer: str) -> bool:
    """Return whether a layer is of a network: the model, or the model with random weights or on changed clips."""
    return is_model(layer) or base_of(layer).startswith(OF_NETWORKS)


def family(layer: str) -> str:
    """Return a layer's family: the blocks of one network are one ("dit", "random.dit"); others are their own."""
    if "tokenizer." not in layer:
        for middle in (".blocks.", ".layers."):
            if middle in layer:
                return layer.partition(middle)[0]
    return layer


def pool_of(bank: FeatureBank, layer: str) -> str | None:
    """Return the bank's pool for what comes from a network; pixels are not pooled, and constants have no features."""
    if not of_network(layer):
        return None if layer in CONSTANT else "none"
    pool = bank.meta.get("pool")
    return pool.get(layer.partition("/")[0]) if isinstance(pool, dict) else pool  # a merged bank's may differ


def describe_score(
    bank: FeatureBank, key: str, kind: str, task: ProbeTask, score: ProbeScore, **others: Any
) -> dict[str, Any]:
    """Return the row of a probe's score on a feature.

    Args:
        bank: the features.
        key: of the feature, or the name of a probe that looks at none.
        kind: the kind of probe.
        task: the labels.
        score: the probe's.
        others: further entries of the row.
    """
    layer, level = parse_key(key)
    row = result_row(
        layer, level, pool=pool_of(bank, layer), kind=kind, task=task.name, metric=METRICS[task.target_type].name,
        test=score.test, ci=score.ci, baseline=not is_model(layer), validation=score.validation,
        target_type=task.target_type,
        goal=task.target_type,  # its older name
        choice=list(score.choice) if isinstance(score.choice, tuple) else score.choice,
        split="given" if task.has_split else "drawn by group", classes=task.classes,
        train_clips=len(task.train), test_clips=len(task.test),
        train_groups=len(set(task.groups[task.train])), test_groups=len(set(task.groups[task.test])),
        unlabelled=task.unlabelled,
    )  # fmt: skip
    if task.target_type == "regression":
        row["mae"] = float(np.abs(score.predictions - task.y[task.test]).mean())
    return row | others
