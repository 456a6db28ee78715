"""Cuts, segments and summaries: exact against all possibilities of small cases."""

from itertools import combinations, product

import numpy as np
import pytest

from vidgen.data.shapes.films import FilmConfig, FilmWorld
from vidgen.data.shapes.labels import ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.representations.moments.curves import SimilarityCurve
from vidgen.representations.moments.film_features import WindowFormat, embed_frames
from vidgen.representations.moments.segmentation import (
    MOST_STEPS,
    choose_segmentation,
    find_cuts,
    segment_all,
    segment_costs,
    segment_film,
)
from vidgen.representations.moments.spans import Span
from vidgen.representations.moments.summaries import choose_within, list_highlights, summarize


def scatter(features: np.ndarray) -> float:
    return float(((features - features.mean(axis=0)) ** 2).sum())


@pytest.mark.parametrize("seed", range(5))
def test_segmentation_is_the_best_of_all(seed: int) -> None:
    features = np.random.default_rng(seed).standard_normal((9, 3))
    costs = segment_costs(features)
    assert costs[2, 6] == pytest.approx(scatter(features[2:7])) and costs[4, 4] == pytest.approx(0, abs=1e-12)
    for m, result in enumerate(segment_all(features, 20), 1):
        every = []
        for inner in combinations(range(1, 9), m - 1):
            edges = [0, *inner, 9]
            every.append((sum(scatter(features[a:b]) for a, b in zip(edges, edges[1:], strict=False)), edges[:-1]))
        cost, starts = min(every)
        assert result.cost == pytest.approx(cost, abs=1e-9) and list(result.starts) == starts
    assert m == 9  # no more segments than steps


def test_the_number_of_segments_is_that_of_the_plateaus() -> None:
    rng = np.random.default_rng(0)
    levels = np.repeat(rng.standard_normal((5, 8)) * 3, [10, 20, 8, 15, 12], axis=0)
    options = segment_all(levels + 0.1 * rng.standard_normal(levels.shape), 20)
    chosen = choose_segmentation(options, len(levels), 8 * 0.1**2 * 2)
    assert chosen.starts == (0, 10, 30, 38, 53)
    with pytest.raises(ValueError, match="cannot be parted"):
        segment_all(levels, 0)


def test_cuts_are_single_jumps_and_not_motion() -> None:
    changes = np.full(40, 0.05)  # steady and fast
    changes[0] = 0
    changes[[10, 25]] = 0.5
    assert find_cuts(changes, 10).tolist() == [1.0, 2.5]
    assert len(find_cuts(np.full(40, 0.05), 10)) == 0
    assert len(find_cuts(np.array([0.0]), 10)) == 0


def test_cuts_and_chapters_of_a_film(color_encoder: type) -> None:
    config = FilmConfig(world=ShapeWorldConfig(height=32, width=32, num_frames=17, backgrounds=("plain",)), num_clips=5)
    film = FilmWorld(config)[2]
    features = embed_frames(color_encoder(), film.iter_frames(), WindowFormat(num_frames=4, fps=8.0, stride=1))
    starts = [clip.start for clip in film.clips[1:]]
    assert find_cuts(features.changes, film.fps).tolist() == pytest.approx(starts)
    chapters = segment_film(features)
    colours = [clip.labels.objects[0].colour for clip in film.clips]
    borders = [s for s, a, b in zip(starts, colours, colours[1:], strict=False) if a != b]  # all that it can see
    assert [chapter.start for chapter in chapters[1:]] == pytest.approx(borders, abs=0.26)
    assert chapters[0].start == 0 and chapters[-1].end == film.duration
    assert [a.end for a in chapters[:-1]] == [b.start for b in chapters[1:]]
    assert len(segment_film(features, segments=3)) == 3


def test_long_films_are_averaged_down() -> None:
    class Long:
        vectors = np.repeat(np.eye(4, dtype=np.float32), 1500, axis=0)
        bounds = np.stack([np.arange(6000.0), np.arange(6000.0) + 1], axis=1)
        duration = 6000.0

    assert len(Long.vectors) > MOST_STEPS
    edges = [span.start for span in segment_film(Long(), most=6)]
    assert edges == pytest.approx([0, 1500, 3000, 4500], abs=2)


@pytest.mark.parametrize("seed", range(10))
def test_knapsack_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, lengths, budget = rng.random(9) - 0.1, rng.integers(1, 8, 9), int(rng.integers(0, 25))
    chosen = choose_within(values, lengths, budget)
    assert lengths[chosen].sum() <= budget
    every = [np.array(bits, bool) for bits in product([0, 1], repeat=9)]
    assert values[chosen].sum() == pytest.approx(max(values[b].sum() for b in every if lengths[b].sum() <= budget))
    with pytest.raises(ValueError, match="1 or more"):
        choose_within(values, lengths * 0, budget)


def test_summaries_keep_their_budget() -> None:
    windows = np.stack([np.arange(10.0), np.arange(10.0) + 1], axis=1)
    values = np.array([0.0, 0, 1, 1, 0, 0, 0.5, 0.5, 0, 0])
    curve = SimilarityCurve(values=values, bounds=windows, duration=10.0)
    segments = [Span(start=2.0 * i, end=2.0 * i + 2) for i in range(5)]
    summary = summarize(segments, curve, 4.0)
    assert [span.start for span in summary.spans] == [2.0, 6.0] and summary.seconds == 4.0
    assert [span.start for span in summarize(segments, curve, 3.9).spans] == [2.0]
    assert [span.start for span in list_highlights(curve, segments, 2)] == [2.0, 6.0]
    with pytest.raises(VidgenError, match="room for none of 5"):
        summarize(segments, curve, 1.0)
