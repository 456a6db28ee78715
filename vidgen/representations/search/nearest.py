"""The nearest of many vectors by cosine, block by block: exactly, or by faiss, approximately, where there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from vidgen.checkpoints.atomic import atomic_write
from vidgen.errors import VidgenError
from vidgen.representations.search.retrieval import DIGITS, unit

Backend = Literal["auto", "exact", "faiss"]
Blocks = Callable[[], Iterable[Float[np.ndarray, "m c"]]]  # all rows in their order, in pieces, as often as called

LARGE = 200_000  # rows from which "auto" takes faiss, where it is installed
PROBED = 32  # cells of the inverted file that are looked into
CELLS, SAMPLE, LEAST = 4, 64, 39  # cells per root of the rows; rows a cell that they are learned from, and the fewest


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and standard deviation of every channel; what does not vary is left in its unit."""

    mean: Float[np.ndarray, " c"]
    std: Float[np.ndarray, " c"]

    @classmethod
    def of(cls, blocks: Blocks) -> Scale:
        """Of all rows, in two sums around the first block's mean, so that nothing cancels."""
        shift, first, second, count = None, 0.0, 0.0, 0
        for block in blocks():
            x = block.astype(np.float64)
            shift = x.mean(0) if shift is None else shift
            first, second, count = first + (x - shift).sum(0), second + ((x - shift) ** 2).sum(0), count + len(x)
        if shift is None:
            raise ValueError("a scale needs at least one row, got none")
        std = np.sqrt(np.maximum(second / count - (first / count) ** 2, 0))
        mean = shift + first / count
        return cls(mean=mean.astype(np.float32), std=np.where(std > 1e-12, std, 1.0).astype(np.float32))

    def __call__(self, X: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Standardised and of length 1."""
        return unit((X - self.mean) / self.std)


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Of each query the k nearest rows, nearest first (of equals the earlier row), and their cosines."""

    rows: Int[np.ndarray, "q k"]
    cosines: Float[np.ndarray, "q k"]


def search_exactly(blocks: Blocks, scale: Scale, queries: Float[np.ndarray, "q c"], k: int) -> Nearest:
    """In the memory of one block and its scores."""
    asked, start = scale(queries), 0
    best = [(np.empty(0, np.float32), np.empty(0, np.int64))] * len(asked)
    for block in blocks():
        found = leading(asked @ scale(block).T, k)
        best = [merge(old, (cosines, start + columns), k) for old, (cosines, columns) in zip(best, found, strict=True)]
        start += len(block)
    return Nearest(rows=np.stack([rows for _, rows in best]), cosines=np.stack([cosines for cosines, _ in best]))


def leading(
    scores: Float[np.ndarray, "q m"], k: int
) -> Iterator[tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
    """Of each query the rounded scores of columns that may be among its k best, and these columns in their order: the
    k largest and all that rounding makes equal to the last of them. (Sorting everything takes twenty times as long.)"""
    last = torch.from_numpy(scores).topk(min(k, scores.shape[1]), dim=1).values[:, -1:].numpy()
    queries, columns = np.nonzero(scores >= last - 10.0**-DIGITS)
    ends = np.searchsorted(queries, np.arange(len(scores) + 1))
    for row, start, end in zip(scores, ends, ends[1:], strict=False):
        yield np.round(row[columns[start:end]], DIGITS), columns[start:end]


def merge(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], k: int
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The k best of both, scores and rows; of equals those that come earlier."""
    cosines, rows = (np.concatenate(parts) for parts in zip(one, other, strict=True))
    order = np.argsort(-cosines, kind="stable")[:k]
    return cosines[order], rows[order]


def choose_backend(backend: Backend, count: int) -> Literal["exact", "faiss"]:
    """ "auto" searches exactly up to `LARGE` rows, and beyond where faiss is not installed.

    Raises VidgenError for "faiss" where it is not.
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
    """The module. Raises VidgenError where it is not installed."""
    try:
        import faiss
    except ImportError:
        raise VidgenError(
            "faiss is not installed; add it with `pip install faiss-cpu` (the extra vidgen[faiss]), or search exactly"
        ) from None
    return faiss


def open_faiss(path: Path, blocks: Blocks, scale: Scale, count: int) -> Any:
    """An inverted file (Jegou et al. 2011) over all rows, kept at `path`; other files of its kind beside it, of fewer
    rows, are removed."""
    faiss = load_faiss()
    if not path.exists():
        made = build_faiss(blocks, scale, count)
        with atomic_write(path) as target:
            faiss.write_index(made, str(target))
        for old in path.parent.glob("rows-*.faiss"):
            if old != path:
                old.unlink()
    return faiss.read_index(str(path))


def build_faiss(blocks: Blocks, scale: Scale, count: int) -> Any:
    faiss = load_faiss()
    cells = max(1, min(int(CELLS * count**0.5), count // LEAST))
    sample = spread_rows(blocks, count, min(count, SAMPLE * cells))
    width = sample.shape[1]
    made = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, cells, faiss.METRIC_INNER_PRODUCT)
    made.train(scale(sample))
    for block in blocks():
        made.add(scale(block))
    return made


def spread_rows(blocks: Blocks, count: int, wanted: int) -> Float[np.ndarray, "m c"]:
    """`wanted` rows, evenly spread over all."""
    chosen, start, parts = np.unique(np.linspace(0, count - 1, wanted).astype(np.int64)), 0, []
    for block in blocks():
        here = chosen[(chosen >= start) & (chosen < start + len(block))]
        parts.append(block[here - start])
        start += len(block)
    return np.concatenate(parts)


def search_faiss(made: Any, scale: Scale, queries: Float[np.ndarray, "q c"], k: int) -> Nearest:
    """Among the rows of the cells nearest to each query; exact where all cells are looked into."""
    made.nprobe = min(PROBED, made.nlist)
    cosines, rows = made.search(scale(queries), min(k, made.ntotal))
    return Nearest(rows=rows, cosines=np.round(cosines, DIGITS))


def in_blocks(X: Float[np.ndarray, "n c"], size: int) -> Iterator[Float[np.ndarray, "m c"]]:
    yield from (X[start : start + size] for start in range(0, len(X), size))
