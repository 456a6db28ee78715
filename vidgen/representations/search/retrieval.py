"""Retrieval of video by video: what a bank's features find, by cosine, searched exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from vidgen.errors import VidgenError
from vidgen.representations.extractor import parse_key
from vidgen.representations.probes.metrics import Metric, bootstrap_interval, share
from vidgen.representations.probes.rows import chosen_keys, is_model, pool_of
from vidgen.representations.probes.selection import check_finite
from vidgen.representations.probes.task import TEST_NAMES
from vidgen.representations.search.ranking import Ranking, rank_query

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

KS = (1, 5, 10)
AT_ONCE = 2**24  # scores in memory
DIGITS = 6  # cosines that agree in so many are ties: products of equal rows may differ in the last bit
MAP = Metric(name="map", count=lambda truth, said: np.stack([said, np.ones(len(said))], axis=1), value=share)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Row numbers of what is looked for and in what, and labels and groups (n,) of all rows."""

    queries: Int[np.ndarray, " q"]
    gallery: Int[np.ndarray, " g"]
    labels: np.ndarray
    groups: np.ndarray
    given: bool


def make_search(bank: FeatureBank, task: str = "label", skip_unlabelled: bool = False) -> Search:
    """The split to report on, looked for in "train"; every clip in all others where there are no such splits.

    Raises VidgenError for labels that are not there.
    """
    if task not in bank.columns:
        raise VidgenError(f"{bank.folder} has no labels {task!r}; it has {', '.join(bank.columns) or 'none'}")
    labels, sides = np.array(bank.column(task), dtype=object), np.array([row.split for row in bank.rows], dtype=object)
    known = np.array([label is not None for label in labels])
    name = next((name for name in TEST_NAMES if (sides == name).any()), None)
    given = name is not None and bool((sides == "train").any())
    everything = np.full(len(labels), True)
    query, gallery = (sides == name, sides == "train") if given else (everything, everything)
    if not skip_unlabelled and (bad := np.flatnonzero((query | gallery) & ~known)).size:
        raise VidgenError(f"clip {bank.ids[bad[0]]!r} has no label {task!r}; it may be left out by --skip-unlabelled")
    queries, gallery = np.flatnonzero(query & known), np.flatnonzero(gallery & known)
    return Search(queries=queries, gallery=gallery, labels=labels, groups=bank.groups, given=given)


def retrieve_rows(
    bank: FeatureBank,
    layers: Sequence[str] | None = None,
    *,
    task: str = "label",
    ks: Sequence[int] = KS,
    same_group: bool = False,
    skip_unlabelled: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for every feature of the bank (or of `layers` and their baselines), and one for chance. A hit is a clip
    with the query's label; clips of the query's own group are not in its gallery, unless `same_group`.

    A row has layer, noise_level, pool, kind, task, metric ("map"), test, ci (over groups of queries), baseline, and:
    recall by k as text, median_rank, queries, gallery, and unanswered queries: those without a clip of their label.
    Raises VidgenError for labels or layers that are not there, features that are not finite, nothing to be found.
    """
    search = make_search(bank, task, skip_unlabelled)
    rows = []
    for key in [*chosen_keys(bank, layers), "chance"]:
        # features that are all alike are all ties: what is expected of a random order
        X = np.ones((len(bank), 1), np.float32) if key == "chance" else bank.X(key)
        check_finite(X, bank.ids)
        layer, level = parse_key(key)
        head = {
            "layer": layer,
            "tap": layer,
            "noise_level": level,
            "pool": pool_of(bank, layer),
            "kind": "retrieval",
            "task": task,
        }
        rows.append(head | {"baseline": not is_model(layer)} | measure(X, search, ks, same_group, seed))
    return rows


def measure(
    X: Float[np.ndarray, "n c"], search: Search, ks: Sequence[int], same_group: bool, seed: int
) -> dict[str, Any]:
    ranked: list[Ranking] = []
    answered = []
    for query, scores in zip(search.queries, similarities(X, search.queries, search.gallery), strict=True):
        near = search.groups[search.gallery] == search.groups[query]
        allowed = search.gallery != query if same_group else ~near & (search.gallery != query)
        relevant = (search.labels[search.gallery] == search.labels[query])[allowed]
        if relevant.any():
            ranked.append(rank_query(scores[allowed], relevant, ks))
            answered.append(query)
    if not ranked:
        raise VidgenError("no query has a clip of its own label to be found in another group; nothing can be measured")
    counts = MAP.count(np.empty(0), np.array([one.precision for one in ranked]))
    return {
        "metric": MAP.name,
        "test": MAP(counts),
        "ci": list(bootstrap_interval(MAP, counts, search.groups[answered], seed)),
        "recall": {str(k): float(np.mean([one.hits[i] for one in ranked])) for i, k in enumerate(ks)},
        "median_rank": float(np.median([one.first for one in ranked])),
        "queries": len(ranked),
        "gallery": len(search.gallery),
        "unanswered": len(search.queries) - len(ranked),
        "split": "given" if search.given else "every clip in all others",
    }


def similarities(
    X: Float[np.ndarray, "n c"], queries: Int[np.ndarray, " q"], gallery: Int[np.ndarray, " g"]
) -> Iterator[Float[np.ndarray, " g"]]:
    """Cosines of each query with the gallery, every feature standardized on the gallery, as in the kNN probe."""
    mean, std = X[gallery].mean(0), X[gallery].std(0)
    std = np.where(std > 0, std, 1.0)
    found = unit((X[gallery] - mean) / std)
    step = max(1, AT_ONCE // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        yield from np.round(unit((X[queries[start : start + step]] - mean) / std) @ found.T, DIGITS)


def unit(X: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 0, length, 1.0)


def find_neighbours(bank: FeatureBank, key: str, query: str, count: int = 10) -> list[dict[str, Any]]:
    """The clips nearest to the one with the id `query`, itself left out, nearest first: id, label, group, cosine.

    Raises VidgenError for a clip or features that are not there.
    """
    if query not in bank.ids:
        raise VidgenError(f"{bank.folder} has no clip {query!r}; its ids are as {', '.join(bank.ids[:3])}")
    X, number = bank.X(key), bank.ids.index(query)
    check_finite(X, bank.ids)
    others = np.delete(np.arange(len(bank)), number)
    (scores,) = similarities(X, np.array([number]), others)
    nearest = np.argsort(-scores, kind="stable")[:count]
    rows = [bank.rows[row] for row in others[nearest]]
    return [
        {"id": row.id, "label": row.label, "group": row.group, "cosine": float(score)}
        for row, score in zip(rows, scores[nearest], strict=True)
    ]
