"""Pretexts on segments: the answer is what was done, every answer comes, and no frame is where it was not."""

import math
from itertools import permutations

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.views.segment_pretexts import CUBES, SEGMENT_PRETEXTS, SORTS, draw_segments

FRAMES = 16


def numbered(count: int = 400) -> torch.Tensor:
    """Clips whose frame i has the value 4 i, plus the number of the quarter of its area."""
    times = 4.0 * torch.arange(float(FRAMES))[:, None, None]
    quarter = (torch.arange(8) // 4)[:, None] * 2 + torch.arange(8) // 4
    return (times + quarter).expand(count, 3, -1, -1, -1)


def drawn(name: str) -> list[tuple[list[list[int]], int]]:
    """Return the times of each segment's frames, and the answer, of every clip."""
    segments, labels = draw_segments(name, numbered(), torch.Generator().manual_seed(0))
    return list(zip((segments[:, :, 0, :, 0, 0] // 4).int().tolist(), labels.tolist(), strict=True))


def steps(times: list[int]) -> set[int]:
    return {b - a for a, b in zip(times, times[1:], strict=False)}


@pytest.mark.parametrize("name", SEGMENT_PRETEXTS)
def test_every_answer_comes_about_equally_often(name):
    segments, labels = draw_segments(name, numbered(), torch.Generator().manual_seed(0))
    pretext = SEGMENT_PRETEXTS[name]
    assert segments.shape[:4] == (400, pretext.count, 3, FRAMES // pretext.share)
    hits = torch.bincount(labels, minlength=pretext.answers)
    mean = 400 / pretext.answers
    assert len(hits) == pretext.answers and ((hits - mean).abs() <= 4.5 * math.sqrt(mean)).all()
    again, _ = draw_segments(name, numbered(), torch.Generator().manual_seed(0))
    assert torch.equal(again, segments)


def test_the_odd_one_alone_is_out_of_order():
    for segments, label in drawn("odd_one_out"):
        assert [steps(times) == {1} for times in segments] == [i != label for i in range(4)]
        assert steps(sorted(segments[label])) == {1}


def test_rates_are_compared():
    for segments, label in drawn("faster"):
        (slow,), (fast,) = (steps(segments[i]) for i in (1 - label, label))
        assert slow < fast and {slow, fast} <= {1, 2, 4}
    for segments, label in drawn("match_pace"):
        own, *others = (steps(times) for times in segments)
        assert len(own) == 1 and others[label] == own and others[1 - label] != own


def test_parts_are_in_the_order_told_either_way_round():
    ways = set()
    for segments, label in drawn("sort"):
        order = tuple(times[0] // 4 for times in segments)
        assert all(steps(times) == {1} for times in segments) and SORTS[label] in (order, order[::-1])
        ways.add(SORTS[label] == order)
    assert ways == {True, False} and len(SORTS) == 12


def test_cubes_lie_along_space_or_time():
    segments, labels = draw_segments("cubic_puzzle", numbered(), torch.Generator().manual_seed(0))
    orders = list(permutations(range(CUBES)))
    for cubes, label in zip(segments, labels.tolist(), strict=True):
        times, places = (cubes[:, 0, 0, 0, 0] // 16).int().tolist(), (cubes[:, 0, 0, 0, 0] % 4).int().tolist()
        assert bool((cubes % 4 == cubes[:, :1, :1, :1, :1] % 4).all())  # of one quarter each
        moved, fixed = (times, places) if label >= len(orders) else (places, times)
        assert tuple(moved) == orders[label % len(orders)] and len(set(fixed)) == 1


def test_a_section_is_what_the_rest_lacks():
    cuts = set()
    for (rest, section), _ in drawn("missing_section"):
        assert sorted(rest + section) == list(range(FRAMES)) and steps(section) == {1}
        assert rest[0] < section[0] and max(steps(rest)) == 9
        cuts.add(section[0])
    assert cuts == set(range(1, 8))


def test_short_clips_are_refused():
    with pytest.raises(VidgenError, match="pretext sort needs clips of 8 frames, not 7"):
        draw_segments("sort", torch.zeros(1, 3, 7, 8, 8), torch.Generator())
