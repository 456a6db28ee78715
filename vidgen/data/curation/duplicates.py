"""Clusters of clips that are nearly the same, by the perceptual hashes of their frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

# Share of bits. 24 natural clips and clips of actions, coded at CRF 36 or at half the size, differ from themselves in
# 0.021 at most, and from each other in 0.067 at least (two people who wave alike); 24 of the synthetic world at CRF 36
# in 0.026 and 0.168. Of hues as near as orange and yellow on a small square it is 0.027.
MAX_DISTANCE = 0.04


def cluster_duplicates(
    hashes: Sequence[Bool[np.ndarray, "k bits"]], max_distance: float = MAX_DISTANCE
) -> Int[np.ndarray, " n"]:
    """Return for each clip the number of the first clip of its cluster, its own where nothing before is like it.

    Clips whose hashes differ in at most `max_distance` of their bits are linked, and a cluster is what hangs together.
    Time grows with the square of the number of clips.
    """
    if not hashes:
        return np.zeros(0, int)
    bits = np.stack([hash.ravel() for hash in hashes])
    search = NearestNeighbors(metric="hamming", algorithm="brute", radius=max_distance).fit(bits)
    _, clusters = connected_components(search.radius_neighbors_graph(bits), directed=False)
    _, first, which = np.unique(clusters, return_index=True, return_inverse=True)
    return first[which]
