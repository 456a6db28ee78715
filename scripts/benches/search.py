"""The nearest of a million rows: ours beside scikit-learn, and beside faiss where it is installed; all exact."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.search.nearest import in_blocks, search_exactly
from vidgen.representations.search.retrieval import unit
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.memory import measure_peak
from vidgen.scripts.benches.rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.timing import alternate

PREPARE = "vidgen.scripts.benches.search:prepare_alone"
ROWS, QUICK_ROWS = 1_000_000, 2_000
BLOCK = 2**16  # rows whose scores are held at a time
Found = tuple[np.ndarray, np.ndarray]  # cosines and rows (q, k)


@dataclass(frozen=True, kw_only=True)
class SearchWork:
    """`queries` rows of unit length looked for among `rows`, by `how`, one of `SEARCHES`."""

    how: str = "ours"
    rows: int
    width: int = 64
    queries: int = 100
    k: int = 10

    def make(self) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "q c"]]:
        rng = np.random.default_rng(0)
        shapes = ((self.rows, self.width), (self.queries, self.width))
        gallery, queries = (unit(rng.standard_normal(shape, np.float32)) for shape in shapes)
        return gallery, queries


def by_ours(gallery: np.ndarray, k: int) -> Callable[[np.ndarray], Found]:
    width = gallery.shape[1]
    # the rows are what they should be
    scaler = Standardizer(mean=np.zeros(width, np.float32), std=np.ones(width, np.float32))

    def search(queries: np.ndarray) -> Found:
        found = search_exactly(lambda: in_blocks(gallery, BLOCK), scaler, queries, k)
        return found.cosines, found.rows

    return search


def by_sklearn(gallery: np.ndarray, k: int) -> Callable[[np.ndarray], Found]:
    """By Euclidean distance, which has its quickest code: for rows of unit length the order is that of cosines."""
    from sklearn.neighbors import NearestNeighbors

    fitted = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery)

    def search(queries: np.ndarray) -> Found:
        distances, rows = fitted.kneighbors(queries)
        return 1.0 - 0.5 * distances**2, rows

    return search


def by_faiss(gallery: np.ndarray, k: int) -> Callable[[np.ndarray], Found]:
    faiss = importlib.import_module("faiss")  # not one of ours to declare: measured where somebody has it
    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return lambda queries: index.search(queries, k)


SEARCHES: dict[str, Callable[[np.ndarray, int], Callable[[np.ndarray], Found]]] = {
    "ours": by_ours,
    "sklearn": by_sklearn,
    "faiss": by_faiss,
}


def prepare(work: SearchWork) -> Callable[[], Found]:
    gallery, queries = work.make()
    search = SEARCHES[work.how](gallery, work.k)
    return lambda: search(queries)


def prepare_alone(**values: Any) -> Callable[[], Found]:
    """The work in a process that measures memory."""
    return prepare(SearchWork(**values))


def measure_search(settings: BenchSettings, machine: Machine, peers: tuple[str, ...]) -> Iterator[Row]:
    """A row a peer, or one without any; those that are not installed are said so."""
    count = settings.knn_rows or (QUICK_ROWS if settings.quick else ROWS)
    work = SearchWork(rows=count)
    here = [name for name in peers if find_spec(name) is not None]
    gallery, queries = work.make()
    searches = {name: SEARCHES[name](gallery, work.k) for name in ("ours", *here)}
    runs = {name: (lambda search=search: search(queries)) for name, search in searches.items()}
    outs = {name: run() for name, run in runs.items()}
    times = alternate(runs, rounds=settings.rounds, warmup=0)
    gflops = 2e-9 * work.rows * work.queries * work.width
    mine: dict[str, Any] = {"queries_per_s": work.queries / times["ours"].median, "gflops": gflops}
    mine["roof"] = machine.matmul_gflops["float32"]
    if settings.memory:
        peak = measure_peak(PREPARE, **asdict(work))
        mine |= {"peak_mb": peak.peak_mb, "work_mb": peak.work_mb}
    title = f"{work.k} nearest of {work.rows:,} x {work.width}, {work.queries} queries"
    for name in here:
        found = {"peer": times[name], "max_abs_diff": float(np.abs(outs["ours"][0] - outs[name][0]).max())}
        found["same_rows"] = float((outs["ours"][1] == outs[name][1]).mean())
        if settings.memory:
            found["peer_peak_mb"] = measure_peak(PREPARE, **{**asdict(work), "how": name}).peak_mb
        said = f"{mine['queries_per_s']:.0f} queries/s, {found['same_rows']:.2%} of the rows as {name} has them"
        yield make_row(f"{title}, {name}", times["ours"], said=said, **mine, **found)
    absent = [name for name in peers if name not in here]
    note = f"{', '.join(absent)} is not installed, and not measured" if absent else ""
    if not here or absent:
        yield make_row(title, times["ours"], said=f"{mine['queries_per_s']:.0f} queries/s", note=note, **mine)
