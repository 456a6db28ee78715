"""Nearest neighbors by cosine, block by block: exactly, or by faiss, approximately, where there are many rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.bounded_files import check_regular, parse_json, read_text
from vidgen.files.seals import file_checksum
from vidgen.representations.probes.standardization import Blocks, Standardizer
from vidgen.representations.search.retrieval import DIGITS, unit

Backend = Literal["auto", "exact", "faiss"]

LARGE = 200_000  # rows from which "auto" takes faiss, where it is installed
NUM_PROBES = 32  # cells of the inverted file that are searched
CELLS, SAMPLE, LEAST = 4, 64, 39  # cells per root of the rows; rows a cell that they are trained on, and the fewest


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """The k nearest rows of each query, nearest first (of equals the earlier row), and their cosines."""

    rows: Int[np.ndarray, "q k"]
    cosines: Float[np.ndarray, "q k"]


def search_exactly(blocks: Blocks, scaler: Standardizer, queries: Float[np.ndarray, "q c"], k: int) -> Nearest:
    """Return the nearest rows exactly, in the memory of one block and its scores."""
    queries = unit(scaler.transform(queries))
    start = 0
    best = [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(queries)
    for block in blocks():
        new = leading(queries @ unit(scaler.transform(block)).T, k)
        best = [merge(old, (cosines, start + columns), k) for old, (cosines, columns) in zip(best, new, strict=True)]
        start += len(block)
    return Nearest(rows=np.stack([rows for _, rows in best]), cosines=np.stack([cosines for cosines, _ in best]))


def leading(
    scores: Float[np.ndarray, "q m"], k: int
) -> Iterator[tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
    """Yield for each query the rounded scores of columns that may be among its k best, and these columns in order: the
    k largest and all that rounding makes equal to the last of them. (Sorting everything takes twenty times as long.)"""
    last = torch.from_numpy(scores).topk(min(k, scores.shape[1]), dim=1).values[:, -1:].numpy()
    queries, columns = np.nonzero(scores >= last - 10.0**-DIGITS)
    ends = np.searchsorted(queries, np.arange(len(scores) + 1))
    for row, start, end in zip(scores, ends, ends[1:], strict=False):
        yield np.round(row[columns[start:end]], DIGITS), columns[start:end]


def merge(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], k: int
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return the k best of both, scores and rows; of equals those that come earlier."""
    cosines, rows = (np.concatenate(parts) for parts in zip(one, other, strict=True))
    order = np.argsort(-cosines, kind="stable")[:k]
    return cosines[order], rows[order]


def choose_backend(backend: Backend, count: int) -> Literal["exact", "faiss"]:
    """Return how to search: "auto" is exact up to `LARGE` rows, and beyond where faiss is not installed.

    Raises VidgenError for "faiss" where it is not installed.
    """
    if backend == "faiss":
        load_faiss()
        return "faiss"
    if backend == "exact" or count < LARGE:
        return "exact"
    try:
        load_faiss()
    except VidgenError:
        return "exact"
    return "faiss"


def load_faiss() -> Any:
    """Return the module. Raises VidgenError where it is not installed."""
    try:
        import faiss
    except ImportError:
        raise VidgenError(
            "faiss is not installed; add it with `pip install faiss-cpu` (the extra vidgen[faiss]), or search exactly"
        ) from None
    return faiss


def open_faiss(path: Path, blocks: Blocks, scaler: Standardizer, count: int, origin: str = "") -> Any:
    """Return an inverted file (Jegou et al. 2011) over all rows, stored at `path`; others beside it, of fewer rows, are
    removed.

    origin: the checksum of the rows. A file of others, or one that is not as it was written, is made again.
    """
    faiss = load_faiss()
    note = path.with_suffix(".json")
    try:
        described = parse_json(read_text(note))
        check_regular(path)
        current = described == {"origin": origin, "checksum": file_checksum(path)}
    except (OSError, ValueError, VidgenError):
        current = False
    if not current:
        index = build_faiss(blocks, scaler, count)
        with atomic_write(path) as target:
            faiss.write_index(index, str(target))
        with atomic_write(note) as target:
            target.write_text(json.dumps({"origin": origin, "checksum": file_checksum(path)}) + "\n", encoding="utf-8")
        for old in path.parent.glob("rows-*"):
            if old not in (path, note):
                old.unlink()
    return faiss.read_index(str(path))


def build_faiss(blocks: Blocks, scaler: Standardizer, count: int) -> Any:
    """Return an inverted file over all rows, in memory."""
    faiss = load_faiss()
    cells = max(1, min(int(CELLS * count**0.5), count // LEAST))
    sample = spread_rows(blocks, count, min(count, SAMPLE * cells))
    width = sample.shape[1]
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(unit(scaler.transform(sample)))
    for block in blocks():
        index.add(unit(scaler.transform(block)))
    return index


def spread_rows(blocks: Blocks, count: int, size: int) -> Float[np.ndarray, "m c"]:
    """Return `size` rows, evenly spread over all `count`."""
    numbers = np.unique(np.linspace(0, count - 1, size).astype(np.int64))
    start, parts = 0, []
    for block in blocks():
        here = numbers[(numbers >= start) & (numbers < start + len(block))]
        parts.append(block[here - start])
        start += len(block)
    return np.concatenate(parts)


def search_faiss(index: Any, scaler: Standardizer, queries: Float[np.ndarray, "q c"], k: int) -> Nearest:
    """Return the nearest among the rows of the cells nearest to each query; exact where all cells are searched."""
    index.nprobe = min(NUM_PROBES, index.nlist)
    cosines, rows = index.search(unit(scaler.transform(queries)), min(k, index.ntotal))
    return Nearest(rows=rows, cosines=np.round(cosines, DIGITS))


def in_blocks(X: Float[np.ndarray, "n c"], size: int) -> Iterator[Float[np.ndarray, "m c"]]:
    """Yield rows in blocks of a size."""
    yield from (X[start : start + size] for start in range(0, len(X), size))
