"""From rows of a bank back to the clips they are of: where they lie, what they show, which are near."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vidgen.data.reading import read_video
from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, FeatureBank
from vidgen.representations.probes.selection import check_finite
from vidgen.representations.search.retrieval import Search, make_search, similarities


def path_of(bank: FeatureBank, row: BankRow) -> str:
    """The clip's path, with "#2" and so on behind it for further windows of one file; see `find_clips`."""
    source = Path(bank.meta.get("source", "/"))  # the ids of an index are paths already
    is_file = source.is_file() or (not source.exists() and source.suffix != "")
    return str((source.parent if is_file else source) / row.id)


def show_clip(bank: FeatureBank, row: BankRow, count: int = 3) -> UInt8[np.ndarray, "count h w 3"]:
    """The first, the last and other frames of the window that the row's features are of, at their size.

    Raises VidgenError where the clip is not there any more.
    """
    path, window = path_of(bank, row), bank.meta.get("preprocessing") or {}
    if not Path(path).exists():
        path = path.rpartition("#")[0] or path
    if not Path(path).exists():
        raise VidgenError(f"{path}: the clip is not there any more, and cannot be shown")
    fps = window.get("fps")
    clip = read_video(
        path, start=row.times[0] if row.times else 0.0, num_frames=window.get("num_frames"), fps=fps,
        size=tuple(window["size"]) if window.get("size") else None, short="keep",
    )  # fmt: skip
    return clip.frames[np.linspace(0, len(clip.frames) - 1, count).round().astype(int)]


def list_neighbours(
    bank: FeatureBank,
    key: str,
    queries: Sequence[str] | None = None,
    *,
    task: str = "label",
    count: int = 5,
    shown: int = 6,
    same_group: bool = False,
) -> list[dict[str, Any]]:
    """What some queries find, as `retrieve_rows` searches: {"query": row, "neighbours": [{"row", "cosine", "hit"}]}.

    queries: ids; None takes `shown` of those that `retrieve_rows` has, evenly spread. A hit has the query's label; of a
    bank without labels `task` every clip is looked for in all others, and "hit" is None.
    Raises VidgenError for clips or features that are not there.
    """
    labelled = task in bank.columns
    search = make_search(bank, task, skip_unlabelled=True) if labelled else search_unlabelled(bank)
    X, ids = bank.X(key), bank.ids
    check_finite(X, ids)
    if queries is None:
        spread = np.unique(np.linspace(0, len(search.queries) - 1, shown).astype(int))
        chosen = search.queries[spread]
    else:
        if missing := [name for name in queries if name not in ids]:
            raise VidgenError(f"{bank.folder} has no clip {missing[0]!r}; its ids are as {', '.join(ids[:3])}")
        chosen = np.array([ids.index(name) for name in queries])
    lines = []
    for query, scores in zip(chosen, similarities(X, chosen, search.gallery), strict=True):
        near = search.groups[search.gallery] == search.groups[query]
        allowed = (search.gallery != query) & (same_group | ~near)
        found, cosines = search.gallery[allowed], scores[allowed]
        order = np.argsort(-cosines, kind="stable")[:count]
        right = [bool(search.labels[n] == search.labels[query]) if labelled else None for n in found[order]]
        neighbours = [
            {"row": bank.rows[n], "cosine": float(cosine), "hit": hit}
            for n, cosine, hit in zip(found[order], cosines[order], right, strict=True)
        ]
        lines.append({"query": bank.rows[query], "neighbours": neighbours})
    return lines


def search_unlabelled(bank: FeatureBank) -> Search:
    rows = np.arange(len(bank))
    return Search(queries=rows, gallery=rows, labels=np.full(len(bank), None), groups=bank.groups, given=False)
