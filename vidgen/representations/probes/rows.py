"""Probes of a bank as rows of plain data, every baseline beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange, reduce
from jaxtyping import Float

from vidgen.deprecation import renamed_keywords
from vidgen.errors import VidgenError
from vidgen.representations.augmentations import AUGMENTATIONS
from vidgen.representations.baselines import OF_NETWORKS, PIXEL_BASELINES, SHUFFLED, base_of, twin_of
from vidgen.representations.feature_keys import parse_key
from vidgen.representations.probes.leave_group_out import all_clips, leave_group_out
from vidgen.representations.probes.metrics import METRICS, difference_interval
from vidgen.representations.probes.registry import MAJORITY, PROBES
from vidgen.representations.probes.results import describe_score, family, is_model, pool_of
from vidgen.representations.probes.selection import Probe, ProbeScore, choose_and_score
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
    against: str | None = None,
    leave_groups_out: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return one row for every feature of the bank, and one for the majority class (or the mean).

    A row has layer, noise_level, pool, kind, task, metric, validation, test, ci, baseline, and: target_type, choice,
    split, classes, the number of clips and groups in train and test, and unlabelled clips that were left out; "mae" for
    numbers, in their unit; temporal_gain and its interval where the bank has the same layer of shuffled frames; and
    with `against` the difference from that, its 95% interval on the same clips (paired bootstrap over groups).
    Raises VidgenError for a kind that is not there, a bank that holds no task, or a layer that it lacks.

    Args:
        bank: the features, and the labels.
        kind: one of `PROBES`.
        layers: layers or keys that rows are wanted of, which their baselines stand beside; None takes all.
        task: the name of the labels.
        target_type: see `read_column`.
        skip_unlabelled: leaves out clips without a label.
        against: a layer, a key, or a family (see `family`), of which the best on validation is what others are held
            against.
        leave_groups_out: reports on all clips, those of each group by a probe of the other groups; splits do not count.
        seed: of a split that is drawn, of intervals, and of probes that are trained from random weights.
        progress: called with the number of features that are done, and of all.
    """
    if kind not in PROBES:
        raise VidgenError(f"probe {kind!r} is unknown; choose one of {', '.join(PROBES)}")
    probe = PROBES[kind]
    labels = task_of(bank, seed, name=task, target_type=target_type, skip_unlabelled=skip_unlabelled)
    chosen = chosen_keys(bank, layers)
    if against is not None and layers is not None:
        chosen += [key for key in chosen_keys(bank, None) if is_called(key, against) and key not in chosen]
    keys = counted(chosen, progress)
    if leave_groups_out:
        labels = all_clips(labels)
    score_of = leave_group_out if leave_groups_out else choose_and_score
    scores = {key: score_of(probe, features_for(bank, key, probe), labels, seed=seed) for key in keys}
    reference = None if against is None else best_of(scores, against)
    rows = []
    for key, score in scores.items():
        row = describe_score(bank, key, kind, labels, score)
        if (twin := scores.get(twin_of(key, SHUFFLED))) is not None:
            row |= difference("temporal_gain", score, twin, labels, seed)
        if reference is not None:
            row |= {"against": reference, **difference("difference", score, scores[reference], labels, seed)}
        rows.append(row)
    return [*rows, majority_row(bank, kind, labels, seed, score_of=score_of)]


def best_of(scores: Mapping[str, ProbeScore], name: str) -> str:
    """Return of the features called `name`, by key, layer or family, the key that is best on validation. Raises
    VidgenError for none."""
    keys = [key for key in scores if is_called(key, name)]
    if not keys:
        families = dict.fromkeys(family(parse_key(key)[0]) for key in scores)
        raise VidgenError(
            f"nothing here is called {name!r}, to hold others against; choose one of {', '.join(families)}"
        )
    return max(keys, key=lambda key: scores[key].validation)


def is_called(key: str, name: str) -> bool:
    """Return whether a feature may be asked for as `name`: its key, its layer or its family."""
    return name in {*names_of(key), family(parse_key(key)[0])}


def difference(name: str, score: ProbeScore, other: ProbeScore, task: ProbeTask, seed: int) -> dict[str, Any]:
    """Return how far a score on test is above another, as `name`, and the interval of that."""
    groups = task.groups[task.test]
    ci = difference_interval(METRICS[task.target_type], score.counts, other.counts, groups, seed)
    return {name: score.test - other.test, f"{name}_ci": ci and list(ci)}


def majority_row(
    bank: FeatureBank,
    kind: str,
    task: ProbeTask,
    seed: int,
    *,
    score_of: Callable[..., ProbeScore] = choose_and_score,
    **others: Any,
) -> dict[str, Any]:
    """Return the row of the majority class, or of the mean of numbers, scored by `score_of`."""
    score = score_of(MAJORITY, np.zeros((len(bank), 1), np.float32), task, seed=seed)
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
