"""The nearest of a million rows: ours beside scikit-learn, and beside faiss where it is installed; all exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vidgen.profiling.peak_memory import measure_peak, print_peak
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.search.nearest import in_blocks, search_exactly
from vidgen.representations.search.retrieval import unit
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import alternate

ROWS, QUICK_ROWS = 1_000_000, 2_000
BLOCK = 2**16  # rows whose scores are held at a time
Neighbors = tuple[np.ndarray, np.ndarray]  # cosines and rows (q, k)


@dataclass(frozen=True, kw_only=True)
class SearchWork:
    """The k nearest of `rows` rows of unit length to each of `queries` others, by `method`, one of `SEARCHES`."""

    method: str = "ours"
    rows: int
    width: int = 64
    queries: int = 100
    k: int = 10

    def make(self) -> tuple[Float[np.ndarray, "n c"], Float[np.ndarray, "q c"]]:
        """Return random rows and queries, the same at every call."""
        rng = np.random.default_rng(0)
        shapes = ((self.rows, self.width), (self.queries, self.width))
        gallery, queries = (unit(rng.standard_normal(shape, np.float32)) for shape in shapes)
        return gallery, queries


def by_ours(gallery: np.ndarray, k: int) -> Callable[[np.ndarray], Neighbors]:
    """Return our exact search, block by block."""
    width = gallery.shape[1]
    # the rows are what they should be
    scaler = Standardizer(mean=np.zeros(width, np.float32), std=np.ones(width, np.float32))

    def search(queries: np.ndarray) -> Neighbors:
        nearest = search_exactly(lambda: in_blocks(gallery, BLOCK), scaler, queries, k)
        return nearest.cosines, nearest.rows

    return search


def by_sklearn(gallery: np.ndarray, k: int) -> Callable[[np.ndarray], Neighbors]:
    """Return scikit-learn's search by Euclidean distance, which has its quickest code: for rows of unit length the
    order is that of cosines."""
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery)

    def search(queries: np.ndarray) -> Neighbors:
        distances, rows = model.kneighbors(queries)
        return 1.0 - 0.5 * distances**2, rows

    return search


def by_faiss(gallery: np.ndarray, k: int) -> Callable[[np.ndarray], Neighbors]:
    """Return faiss' exact search by inner products."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return lambda queries: index.search(queries, k)


SEARCHES: dict[str, Callable[[np.ndarray, int], Callable[[np.ndarray], Neighbors]]] = {
    "ours": by_ours,
    "sklearn": by_sklearn,
    "faiss": by_faiss,
}


def prepare(work: SearchWork) -> Callable[[], Neighbors]:
    """Make ready the work, with its rows made. It returns the neighbors."""
    gallery, queries = work.make()
    search = SEARCHES[work.method](gallery, work.k)
    return lambda: search(queries)


def prepare_alone(**values: Any) -> Callable[[], Neighbors]:
    """Make ready the work in a process that measures memory."""
    return prepare(SearchWork(**values))


def measure_search(settings: BenchSettings, machine: Machine, peers: tuple[str, ...]) -> Iterator[Row]:
    """Yield a row a peer, or one without any; a note names peers that are not installed."""
    count = settings.knn_rows or (QUICK_ROWS if settings.quick else ROWS)
    work = SearchWork(rows=count)
    installed = [name for name in peers if find_spec(name) is not None]
    gallery, queries = work.make()
    searches = {name: SEARCHES[name](gallery, work.k) for name in ("ours", *installed)}
    runs = {name: (lambda search=search: search(queries)) for name, search in searches.items()}
    outs = {name: run() for name, run in runs.items()}
    times = alternate(runs, rounds=settings.rounds, warmup=0)
    gflops = 2e-9 * work.rows * work.queries * work.width
    rate = work.queries / times["ours"].median
    ours: dict[str, Any] = {"queries_per_s": rate, "gflops": gflops}
    ours["peak_gflops"] = machine.matmul_gflops["float32"]
    if settings.memory:
        peak = measure_peak(prepare_alone, **asdict(work))
        ours |= {"peak_mb": peak.peak_mb, "work_mb": peak.work_mb}
    title = f"{work.k} nearest of {work.rows:,} x {work.width}, {work.queries} queries"
    for name in installed:
        peer: dict[str, Any] = {
            "peer": times[name],
            "max_abs_diff": float(np.abs(outs["ours"][0] - outs[name][0]).max()),
        }
        peer["same_rows"] = float((outs["ours"][1] == outs[name][1]).mean())
        if settings.memory:
            peer["peer_peak_mb"] = measure_peak(prepare_alone, **{**asdict(work), "method": name}).peak_mb
        said = f"{rate:.0f} queries/s, {peer['same_rows']:.2%} of the rows as {name} has them"
        yield make_row(f"{title}, {name}", times["ours"], said=said, **ours, **peer)
    absent = [name for name in peers if name not in installed]
    note = f"{', '.join(absent)} is not installed, and not measured" if absent else ""
    if not installed or absent:
        yield make_row(title, times["ours"], said=f"{rate:.0f} queries/s", note=note, **ours)


if __name__ == "__main__":
    print_peak(prepare_alone)
