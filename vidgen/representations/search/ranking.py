"""Measures of a ranking with ties: expectations over all orders that tied items may be in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The ranking of one query: hits[i], the chance that one of the first ks[i] is relevant; the rank, from 1, of the
    first that is; and average precision."""

    hits: tuple[float, ...]
    first: float
    precision: float


def rank_query(scores: Float[np.ndarray, " n"], relevant: Bool[np.ndarray, " n"], ks: Sequence[int]) -> Ranking:
    """Return the ranking of items by score, the highest first; equal scores are ties, in any order with equal chance.

    Average precision by McSherry & Najork 2008, section 3; the others by counting. ValueError if nothing is relevant.
    """
    if not relevant.any():
        raise ValueError(f"none of {len(relevant)} items is relevant: such a query has no ranking")
    order = np.argsort(-scores, kind="stable")
    ranked, hit = scores[order], relevant[order].astype(np.int64)
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # of blocks of ties
    sizes = np.diff(np.r_[starts, len(ranked)])
    counts = np.add.reduceat(hit, starts)  # of relevant items
    before = np.cumsum(counts) - counts
    block = int(np.argmax(counts > 0))
    start, size, count = int(starts[block]), int(sizes[block]), int(counts[block])
    hits = tuple(chance_of_one(size, count, min(max(k - start, 0), size)) for k in ks)
    position = np.arange(len(ranked)) - np.repeat(starts, sizes)  # within the block
    share = np.repeat(counts / sizes, sizes)
    others = np.repeat((counts - 1) / np.maximum(sizes - 1, 1), sizes)
    precisions = share * (np.repeat(before, sizes) + 1 + position * others) / np.arange(1, len(ranked) + 1)
    return Ranking(
        hits=hits, first=start + (size + 1) / (count + 1), precision=float(precisions.sum() / relevant.sum())
    )


def chance_of_one(size: int, count: int, drawn: int) -> float:
    """Return the chance that `drawn` of `size` items, without replacement, hold any of `count` relevant ones."""
    i = np.arange(count)
    return 1.0 - float(np.prod(np.maximum(size - drawn - i, 0) / (size - i)))
