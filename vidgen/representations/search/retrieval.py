"""Retrieval of video by video: the nearest clips of a bank by cosine of features, searched exactly."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vidgen.deprecation import renamed_attributes, renamed_keywords
from vidgen.errors import VidgenError
from vidgen.representations.extractor import parse_key
from vidgen.representations.probes.metrics import Metric, bootstrap_interval, count_mean, ratio_of_sums
from vidgen.representations.probes.results import is_model, pool_of, result_row
from vidgen.representations.probes.rows import chosen_keys
from vidgen.representations.probes.selection import check_finite
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.probes.task import TEST_NAMES, check_column
from vidgen.representations.search.ranking import Ranking, rank_query

if TYPE_CHECKING:
    from vidgen.representations.bank import FeatureBank

KS = (1, 5, 10)
AT_ONCE = 2**24  # scores in memory
DIGITS = 6  # cosines that agree in so many are ties: products of equal rows may differ in the last bit
MAP = Metric(name="map", count=lambda truth, precisions: count_mean(precisions), value=ratio_of_sums)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Row numbers of the queries and of the gallery that they are searched in, labels and groups (n,) of all rows, and
    whether queries and gallery are those of the bank's splits."""

    queries: Int[np.ndarray, " q"]
    gallery: Int[np.ndarray, " g"]
    labels: np.ndarray
    groups: np.ndarray
    has_split: bool

    def candidates(self, query: int, same_group: bool) -> Bool[np.ndarray, " g"]:
        """Return which rows of the gallery a query may find: not itself, nor its group unless `same_group`."""
        others = self.gallery != query
        return others if same_group else others & (self.groups[self.gallery] != self.groups[query])


def make_search(bank: FeatureBank, task: str = "label", skip_unlabelled: bool = False) -> Search:
    """Return the search for the split to report on in "train", or for every clip in all others where there are no such
    splits.

    Raises VidgenError for labels that are not there.
    """
    check_column(bank, task)
    labels = np.array(bank.column(task), dtype=object)
    sides = np.array([row.split for row in bank.rows], dtype=object)
    labelled = np.array([label is not None for label in labels])
    name = next((name for name in TEST_NAMES if (sides == name).any()), None)
    has_split = name is not None and bool((sides == "train").any())
    everything = np.full(len(labels), True)
    query, gallery = (sides == name, sides == "train") if has_split else (everything, everything)
    if not skip_unlabelled and (bad := np.flatnonzero((query | gallery) & ~labelled)).size:
        raise VidgenError(f"clip {bank.ids[bad[0]]!r} has no label {task!r}; it may be left out by --skip-unlabeled")
    queries, gallery = np.flatnonzero(query & labelled), np.flatnonzero(gallery & labelled)
    return Search(queries=queries, gallery=gallery, labels=labels, groups=bank.groups, has_split=has_split)


@renamed_keywords(taps="layers")
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
    """Return one row for every feature of the bank, and one for chance. A hit is a clip with the query's label.

    A row has layer, noise_level, pool, kind, task, metric ("map"), test, ci (over groups of queries), baseline, and:
    recall by k as text, median_rank, queries, gallery, and unanswered queries: those without a clip of their label.
    Raises VidgenError for labels or layers that are not there, features that are not finite, no clip that can be a hit.

    Args:
        bank: the features, and the labels.
        layers, task, skip_unlabelled: as in `probe_rows`.
        ks: of recall at k.
        same_group: searches clips of the query's own group too.
        seed: of intervals.
    """
    search = make_search(bank, task, skip_unlabelled)
    rows = []
    for key in [*chosen_keys(bank, layers), "chance"]:
        # features that are all alike are all ties: what is expected of a random order
        X = np.ones((len(bank), 1), np.float32) if key == "chance" else bank.X(key)
        check_finite(X, bank.ids)
        layer, level = parse_key(key)
        scores = measure_retrieval(X, search, ks, same_group, seed)
        pool, baseline = pool_of(bank, layer), not is_model(layer)
        rows.append(result_row(layer, level, pool=pool, kind="retrieval", task=task, baseline=baseline, **scores))
    return rows


def measure_retrieval(
    X: Float[np.ndarray, "n c"], search: Search, ks: Sequence[int], same_group: bool, seed: int
) -> dict[str, Any]:
    """Return the measures of a search by features X, as plain data."""
    rankings: list[Ranking] = []
    answered = []
    for query, scores in zip(search.queries, similarities(X, search.queries, search.gallery), strict=True):
        candidates = search.candidates(query, same_group)
        relevant = (search.labels[search.gallery] == search.labels[query])[candidates]
        if relevant.any():
            rankings.append(rank_query(scores[candidates], relevant, ks))
            answered.append(query)
    if not rankings:
        raise VidgenError("no query has a clip of its own label to be found in another group; nothing can be measured")
    counts = count_mean(np.array([one.precision for one in rankings]))
    return {
        "metric": MAP.name,
        "test": MAP(counts),
        "ci": bootstrap_interval(MAP, counts, search.groups[answered], seed),
        **summarize_rankings(rankings, ks),
        "queries": len(rankings),
        "gallery": len(search.gallery),
        "unanswered": len(search.queries) - len(rankings),
        "split": "given" if search.has_split else "every clip in all others",
    }


def summarize_rankings(rankings: Sequence[Ranking], ks: Sequence[int]) -> dict[str, Any]:
    """Return mean recall by k as text, and the median rank of the first hit."""
    recall = {str(k): float(np.mean([one.hits[i] for one in rankings])) for i, k in enumerate(ks)}
    return {"recall": recall, "median_rank": float(np.median([one.first for one in rankings]))}


def similarities(
    X: Float[np.ndarray, "n c"], queries: Int[np.ndarray, " q"], gallery: Int[np.ndarray, " g"]
) -> Iterator[Float[np.ndarray, " g"]]:
    """Yield the cosines of each query with the gallery, features standardized on the gallery, as in the kNN probe."""
    scaler = Standardizer.fit(X[gallery], least=0.0)
    keys = unit(scaler.transform(X[gallery]))
    step = max(1, AT_ONCE // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        yield from np.round(unit(scaler.transform(X[queries[start : start + step]])) @ keys.T, DIGITS)


def unit(X: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
    """Return rows scaled to length 1; rows of zeros stay."""
    length = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(length > 0, length, 1.0)


def nearest_clips(bank: FeatureBank, key: str, query: str, count: int = 10) -> list[dict[str, Any]]:
    """Return the clips nearest to the one with the id `query`, nearest first, without itself: id, label, group, cosine.

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


__getattr__ = renamed_attributes(__name__, {"find_neighbours": "nearest_clips"})
