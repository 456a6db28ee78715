"""Where a film changes: cuts from frame to frame, and segments alike within by dynamic programming over features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vidgen.representations.moments.film_features import FilmFeatures
from vidgen.representations.moments.spans import Span

CUT_RADIUS = 4  # frames before and after one, of which it is told whether it is a cut
CUT_RATIO = 3.0  # a cut changes so many times as much as the frames around it
CUT_CHANGE = 0.02  # and at least so much, as a share of the range of brightness
MOST_STEPS = 2000  # of a film that are segmented one by one; a longer one is averaged down to it


def find_cuts(
    changes: Float[np.ndarray, " t"], fps: float, *, ratio: float = CUT_RATIO, least: float = CUT_CHANGE
) -> Float[np.ndarray, " k"]:
    """Return the times in seconds of hard cuts: the first frames of shots, but the first shot.

    A frame is one where its change from the frame before is above `least`, and above `ratio` times the mean of those
    of its neighbors (an adaptive threshold, as PySceneDetect's), so that steady fast motion is no cut.

    changes: of each frame, as `FilmFeatures.changes`.
    """
    padded = np.pad(changes, CUT_RADIUS)
    counts = np.pad(np.ones_like(changes), CUT_RADIUS)
    kernel = np.ones(2 * CUT_RADIUS + 1)
    kernel[CUT_RADIUS] = 0
    around = np.convolve(padded, kernel, "valid") / np.maximum(np.convolve(counts, kernel, "valid"), 1)
    is_cut = (changes > least) & (changes > ratio * around)
    return np.flatnonzero(is_cut[1:] if len(is_cut) else is_cut) / fps + 1 / fps


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Segments of n steps: `starts` are their first steps, 0 foremost; `cost` is the sum of squared distances of the
    steps to the means of their segments."""

    starts: tuple[int, ...]
    cost: float


def segment_costs(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Return in row i and column j the sum of squared distances of steps i to j to their mean; 0 below the diagonal.

    By sums of the Gram matrix over squares (kernel temporal segmentation, Potapov et al. 2014, algorithm 1).
    """
    gram = features @ features.T
    sums = np.pad(gram.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    energy = np.r_[0.0, np.cumsum(np.diag(gram))]
    count = len(features)
    i, j = np.triu_indices(count)
    inner = sums[j + 1, j + 1] - sums[i, j + 1] - sums[j + 1, i] + sums[i, i]
    costs = np.zeros((count, count))
    costs[i, j] = np.maximum(energy[j + 1] - energy[i] - inner / (j + 1 - i), 0)
    return costs


def segment_all(features: Float[np.ndarray, "n d"], most: int) -> list[Segmentation]:
    """Return the best segmentation of steps into 1, 2, ... up to `most` segments (at most n), each exact.

    Raises ValueError for no steps or segments.
    """
    count = len(features)
    if count < 1 or most < 1:
        raise ValueError(f"{count} steps cannot be parted into {most} segments")
    most = min(most, count)
    costs = segment_costs(np.asarray(features, np.float64))
    best = np.full((most + 1, count + 1), np.inf)  # [m, j]: of the first j steps in m segments
    last = np.zeros((most + 1, count + 1), int)  # where the last of them starts
    best[0, 0] = 0
    for m in range(1, most + 1):
        for j in range(m, count + 1):
            totals = best[m - 1, m - 1 : j] + costs[m - 1 : j, j - 1]
            choice = int(np.argmin(totals))
            best[m, j], last[m, j] = totals[choice], m - 1 + choice
    results = []
    for m in range(1, most + 1):
        starts, end = [], count
        for part in range(m, 0, -1):
            end = int(last[part, end])
            starts.append(end)
        results.append(Segmentation(starts=tuple(reversed(starts)), cost=float(best[m, count])))
    return results


def choose_segmentation(options: Sequence[Segmentation], steps: int, penalty: float) -> Segmentation:
    """Return the segmentation of least mean cost plus `penalty` times m / n (log(n / m) + 1), for m segments of n steps
    (Potapov et al. 2014, section 4.2)."""

    def objective(option: Segmentation) -> float:
        m = len(option.starts)
        return option.cost / steps + penalty * m / steps * (np.log(steps / m) + 1)

    return min(options, key=objective)


def segment_film(
    features: FilmFeatures, *, segments: int | None = None, most: int = 100, penalty: float = 1.0
) -> list[Span]:
    """Return the segments of a film whose windows are alike, in order of time, without gaps: events, or chapters.

    Args:
        features: of the film; one of more than `MOST_STEPS` windows is averaged over neighbors first.
        segments: how many; None: as `penalty` has it.
        most: of those that `penalty` chooses from.
        penalty: of a segment, as a multiple of the mean squared distance of windows to their mean, which one segment
            of all would cost: higher gives fewer segments.
    """
    vectors, bounds = _average(features.vectors.astype(np.float64), features.bounds)
    options = segment_all(vectors, segments or most)
    chosen = (
        options[-1]
        if segments
        else choose_segmentation(options, len(vectors), penalty * options[0].cost / len(vectors))
    )
    centers = bounds.mean(axis=1)
    edges = [0.0, *((centers[start - 1] + centers[start]) / 2 for start in chosen.starts[1:]), features.duration]
    pairs = zip(edges, edges[1:], strict=False)
    return [Span(start=float(start), end=float(end)) for start, end in pairs if end > start]


def _average(vectors: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means of so many neighbors that at most `MOST_STEPS` are left."""
    size = -(-len(vectors) // MOST_STEPS)
    starts = np.arange(0, len(vectors), size)
    counts = np.diff(np.r_[starts, len(vectors)])[:, None]
    return np.add.reduceat(vectors, starts) / counts, np.add.reduceat(bounds, starts) / counts
