"""From rows of a bank back to their clips: paths, frames and nearest clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vidgen.data.reading import read_video
from vidgen.deprecation import renamed_keywords
from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, FeatureBank
from vidgen.representations.probes.selection import check_finite
from vidgen.representations.search.retrieval import Search, make_search, similarities


def path_of(bank: FeatureBank, row: BankRow) -> str:
    """Return the clip's path, with "#2" and so on behind it for further windows of one file; see `find_clips`."""
    source = Path(bank.meta.get("source", "/"))  # the ids of an index are paths already
    is_file = source.is_file() or (not source.exists() and source.suffix != "")
    return str((source.parent if is_file else source) / row.id)


def show_clip(bank: FeatureBank, row: BankRow, count: int = 3) -> UInt8[np.ndarray, "count h w 3"]:
    """Return the first, the last and other frames of the window that the row's features are of, at their size.

    Raises VidgenError where the clip is not there any more.
    """
    path = path_of(bank, row)
    window = bank.meta.get("preprocessing") or {}
    if not Path(path).exists():
        path = path.rpartition("#")[0] or path
    if not Path(path).exists():
        raise VidgenError(f"{path}: the clip is not there any more, and cannot be shown")
    clip = read_video(
        path, start=row.times[0] if row.times else 0.0, num_frames=window.get("num_frames"), fps=window.get("fps"),
        size=tuple(window["size"]) if window.get("size") else None, short="keep",
    )  # fmt: skip
    return clip.frames[np.linspace(0, len(clip.frames) - 1, count).round().astype(int)]


@renamed_keywords(shown="num_queries")
def list_neighbors(
    bank: FeatureBank,
    key: str,
    queries: Sequence[str] | None = None,
    *,
    task: str = "label",
    count: int = 5,
    num_queries: int = 6,
    same_group: bool = False,
) -> list[dict[str, Any]]:
    """Return the nearest clips of some queries, searched as `retrieve_rows` does: {"query": row, "neighbours": [{"row",
    "cosine", "hit"}]}.

    A hit has the query's label; in a bank without labels `task` every clip is searched in all others, and "hit" is
    None. Raises VidgenError for clips or features that are not there.

    Args:
        bank: the features.
        key: of the feature.
        queries: ids; None takes `num_queries` of those that `retrieve_rows` has, evenly spread.
        task: the name of the labels.
        count: so many nearest clips of each query.
        num_queries: see `queries`.
        same_group: searches clips of the query's own group too.
    """
    labelled = task in bank.columns
    search = make_search(bank, task, skip_unlabelled=True) if labelled else search_unlabelled(bank)
    X, ids = bank.X(key), bank.ids
    check_finite(X, ids)
    if queries is None:
        spread = np.unique(np.linspace(0, len(search.queries) - 1, num_queries).astype(int))
        numbers = search.queries[spread]
    else:
        if missing := [name for name in queries if name not in ids]:
            raise VidgenError(f"{bank.folder} has no clip {missing[0]!r}; its ids are as {', '.join(ids[:3])}")
        numbers = np.array([ids.index(name) for name in queries])
    lines = []
    for query, scores in zip(numbers, similarities(X, numbers, search.gallery), strict=True):
        candidates = search.candidates(query, same_group)
        rows, cosines = search.gallery[candidates], scores[candidates]
        nearest = np.argsort(-cosines, kind="stable")[:count]
        neighbors = [
            {
                "row": bank.rows[rows[n]],
                "cosine": float(cosines[n]),
                "hit": bool(search.labels[rows[n]] == search.labels[query]) if labelled else None,
            }
            for n in nearest
        ]
        lines.append({"query": bank.rows[query], "neighbours": neighbors})
    return lines


def search_unlabelled(bank: FeatureBank) -> Search:
    """Return the search for every clip in all others."""
    rows = np.arange(len(bank))
    return Search(queries=rows, gallery=rows, labels=np.full(len(bank), None), groups=bank.groups, has_split=False)
