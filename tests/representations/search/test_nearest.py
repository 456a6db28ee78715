"""Search block by block against the whole at once; faiss against exact search, where it is installed."""

import numpy as np
import pytest

from vidgen.errors import VidgenError
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.search import nearest
from vidgen.representations.search.nearest import (
    build_faiss,
    choose_backend,
    in_blocks,
    open_faiss,
    search_exactly,
    search_faiss,
    spread_rows,
)
from vidgen.representations.search.retrieval import unit


def random_rows(n: int, c: int = 12, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, c)) * np.linspace(0.1, 30, c) + 100).astype(np.float32)


def test_the_scale_is_that_of_all_rows_at_once_even_far_from_zero():
    X = random_rows(501) + 1e4
    X[:, 3] = 7.0  # does not vary
    scaler = Standardizer.fit_blocks(lambda: in_blocks(X, 64))
    np.testing.assert_allclose(scaler.mean, X.astype(np.float64).mean(0), rtol=1e-6)
    std = X.astype(np.float64).std(0)
    np.testing.assert_allclose(np.delete(scaler.std, 3), np.delete(std, 3), rtol=1e-4)
    assert scaler.std[3] == 1.0
    np.testing.assert_allclose(np.linalg.norm(unit(scaler.transform(X)), axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("size", [7, 50, 1000])
def test_blocks_find_what_scikit_learn_finds_in_the_whole(size):
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import StandardScaler

    X, queries = random_rows(200), random_rows(9, seed=1)
    scaler = StandardScaler().fit(X.astype(np.float64))
    peer = NearestNeighbors(n_neighbors=6, metric="cosine").fit(scaler.transform(X))
    distances, rows = peer.kneighbors(scaler.transform(queries))
    result = search_exactly(lambda: in_blocks(X, size), Standardizer.fit_blocks(lambda: in_blocks(X, size)), queries, 6)
    np.testing.assert_array_equal(result.rows, rows)
    np.testing.assert_allclose(result.cosines, 1 - distances, atol=1e-5)


def test_of_equals_the_earlier_row_comes_first_and_k_may_be_more_than_there_is():
    X = np.repeat(random_rows(3), 4, axis=0)
    result = search_exactly(lambda: in_blocks(X, 5), Standardizer.fit_blocks(lambda: [X]), X[4:5], 40)
    assert result.rows.shape == (1, 12) and result.rows[0, :4].tolist() == [4, 5, 6, 7]
    assert np.all(np.diff(result.cosines[0]) <= 0)


def test_rows_to_learn_from_are_spread():
    X = np.arange(100, dtype=np.float32)[:, None]
    sample = spread_rows(lambda: in_blocks(X, 17), 100, 4)
    np.testing.assert_array_equal(sample[:, 0], [0, 33, 66, 99])


def test_the_backend_goes_by_rows_and_by_what_is_installed(monkeypatch):
    def missing():
        raise VidgenError("faiss is not installed")

    assert choose_backend("auto", nearest.LARGE - 1) == choose_backend("exact", 10**9) == "exact"
    monkeypatch.setattr(nearest, "load_faiss", lambda: object())
    assert choose_backend("auto", nearest.LARGE) == choose_backend("faiss", 3) == "faiss"
    monkeypatch.setattr(nearest, "load_faiss", missing)
    assert choose_backend("auto", nearest.LARGE) == "exact"
    with pytest.raises(VidgenError, match="faiss is not installed"):
        choose_backend("faiss", 3)


def test_a_missing_faiss_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(VidgenError, match=r"faiss is not installed; add it with .*vidgen\[faiss\].*search exactly"):
        nearest.load_faiss()


def test_faiss_finds_what_exact_search_finds(tmp_path):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, 16))
    X = (np.repeat(centers, 50, axis=0) + 0.1 * rng.normal(size=(2000, 16))).astype(np.float32)
    blocks = lambda: in_blocks(X, 300)  # noqa: E731
    scaler, queries = Standardizer.fit_blocks(blocks), X[::97]
    exact = search_exactly(blocks, scaler, queries, 5)
    index = build_faiss(blocks, scaler, len(X))
    assert 1 < index.nlist <= 2000 // 39 and index.ntotal == 2000
    every = search_faiss(index, scaler, queries, 5)
    np.testing.assert_array_equal(every.rows[:, 0], np.arange(0, 2000, 97))  # itself
    same = [len(set(a) & set(b)) / 5 for a, b in zip(every.rows, exact.rows, strict=True)]
    assert np.mean(same) > 0.95
    np.testing.assert_allclose(every.cosines[:, 0], exact.cosines[:, 0], atol=2e-6)
    old, new = tmp_path / "rows-1000.faiss", tmp_path / "rows-2000.faiss"
    old.write_bytes(b"")
    stored = open_faiss(new, blocks, scaler, len(X))
    assert stored.ntotal == 2000 and new.exists() and not old.exists()
    again = open_faiss(new, lambda: pytest.fail("built twice"), scaler, len(X))
    np.testing.assert_array_equal(search_faiss(again, scaler, queries, 5).rows, every.rows)
    built = new.read_bytes()
    new.write_bytes(built[:-4] + b"\0\0\0\0")  # damaged: made again, as for other rows
    open_faiss(new, blocks, scaler, len(X))
    assert new.read_bytes() == built
    with pytest.raises(RuntimeError, match="other rows"):
        open_faiss(new, raise_other_rows, scaler, len(X), origin="other")


def raise_other_rows():
    raise RuntimeError("other rows")


def test_rows_may_lie_in_a_file(tmp_path):
    gallery = np.eye(5, dtype=np.float32)
    np.save(tmp_path / "g.npy", gallery)
    mapped, scaler = np.load(tmp_path / "g.npy", mmap_mode="r"), Standardizer(mean=np.zeros(5), std=np.ones(5))
    result = search_exactly(lambda: in_blocks(mapped, 2), scaler, gallery[[3]], 1)
    assert result.rows.tolist() == [[3]] and result.cosines.tolist() == [[1.0]]
