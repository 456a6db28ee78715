"""The nearest rows are those that scikit-learn finds, whatever the blocks."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from vidgen.representations.nearest import nearest
from vidgen.representations.retrieval import unit


@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_the_nearest_are_those_of_scikit_learn(block):
    rng = np.random.default_rng(0)
    gallery, queries = (unit(rng.normal(size=(n, 16)).astype(np.float32)) for n in (300, 20))
    scores, rows = nearest(queries, gallery, 8, block=block)
    distances, truth = (
        NearestNeighbors(n_neighbors=8, metric="cosine", algorithm="brute").fit(gallery).kneighbors(queries)
    )
    np.testing.assert_array_equal(rows, truth)
    np.testing.assert_allclose(scores, 1 - distances, atol=1e-5)


def test_a_gallery_may_lie_in_a_file(tmp_path):
    gallery = np.eye(5, dtype=np.float32)
    np.save(tmp_path / "g.npy", gallery)
    scores, rows = nearest(gallery[[3]], np.load(tmp_path / "g.npy", mmap_mode="r"), 1, block=2)
    assert rows.tolist() == [[3]] and scores.tolist() == [[1.0]]
    with pytest.raises(ValueError, match="6 nearest of 5 rows"):
        nearest(gallery, gallery, 6)
