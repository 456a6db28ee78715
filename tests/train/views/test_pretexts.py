"""Pretexts: the label is what was done, every answer comes, and what is seen is where it is."""

import math
from itertools import permutations

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.views.pretexts import PRETEXTS, draw_pretext, tell_statistics

FRAMES = 12


def numbered(count: int = 400) -> torch.Tensor:
    """Clips whose frame i has the value i everywhere."""
    return torch.arange(float(FRAMES))[None, None, :, None, None].expand(count, 3, -1, 8, 8)


def drawn(name: str, video: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    return draw_pretext(name, numbered() if video is None else video, torch.Generator().manual_seed(0))


def times(views: torch.Tensor) -> list[list[int]]:
    return views[:, 0, :, 0, 0].int().tolist()


@pytest.mark.parametrize("name", sorted(set(PRETEXTS) - {"statistics"}))
def test_every_answer_comes_about_equally_often(name):
    views, labels = drawn(name)
    (count,) = PRETEXTS[name].answers(FRAMES)
    hits = torch.bincount(labels[:, 0], minlength=count)
    assert len(hits) == count and len(views) == 400
    assert ((hits - 400 / count).abs() < 4.5 * math.sqrt(400 / count)).all()
    assert torch.equal(views, drawn(name)[0])


def test_speeds_are_what_they_are_called():
    views, labels = drawn("speed")
    for row, (label,) in zip(times(views), labels.tolist(), strict=True):
        assert len(row) == 3 and row[1] - row[0] == row[2] - row[1] == (1, 2, 4)[label]


def test_warps_are_what_they_are_called():
    views, labels = drawn("warp")
    for row, (label,) in zip(times(views), labels.tolist(), strict=True):
        steps = [b - a for a, b in zip(row, row[1:], strict=False)]
        if label < 3:
            assert set(steps) == {(1, 2, 4)[label]}
        elif label == 3:
            assert min(steps) >= 1
        else:
            assert row[0] == row[-1] and len(set(row)) < len(row)


def test_directions_orders_and_cuts():
    rising = list(range(FRAMES))
    for row, (label,) in zip(*(x.tolist() if x.ndim == 2 else times(x) for x in drawn("direction")), strict=True):
        assert row == (rising[::-1] if label else rising)
    orders = list(permutations(range(3)))
    for row, (label,) in zip(*(x.tolist() if x.ndim == 2 else times(x) for x in drawn("order")), strict=True):
        assert row == [4 * part + i for part in orders[label] for i in range(4)]
    for row, (label,) in zip(*(x.tolist() if x.ndim == 2 else times(x) for x in drawn("continuity")), strict=True):
        jumps = [i + 1 for i, (a, b) in enumerate(zip(row, row[1:], strict=False)) if b - a > 1]
        assert len(row) == 6 and jumps == ([label] if label else [])


def test_a_puzzle_is_the_same_quarters_elsewhere():
    clip = torch.zeros(1, 3, 2, 4, 4)
    for i in range(4):
        clip[..., 2 * (i // 2) : 2 * (i // 2) + 2, 2 * (i % 2) : 2 * (i % 2) + 2] = i
    views, labels = drawn("puzzle", clip.expand(50, -1, -1, -1, -1))
    orders = list(permutations(range(4)))
    for view, (label,) in zip(views, labels.tolist(), strict=True):
        assert view[0, 0, ::2, ::2].flatten().int().tolist() == list(orders[label])


@pytest.mark.parametrize(("step", "direction"), [((0, 1), 0), ((1, 0), 2), ((0, -1), 4), ((-1, 0), 6), ((1, 1), 1)])
def test_the_largest_motion_and_its_direction(step, direction):
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    centers = [(20.0 + step[0] * t * 0.5, 12.0 + step[1] * t * 0.5) for t in range(6)]
    frames = [torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 8.0) for a, b in centers]
    clip = torch.stack(frames)[None].expand(3, -1, -1, -1) * torch.tensor([1.0, -1.0, 1.0])[:, None, None, None]
    _, (place, angle, varied, colour) = tell_statistics(
        clip + torch.tensor([0.0, 0.0, 1e-3])[:, None, None, None], None
    )
    assert place in (9, 10, 13, 5) and angle == direction and varied in (9, 10, 13, 5)
    assert colour == 0b101


def test_short_clips_are_refused():
    with pytest.raises(VidgenError, match="pretext speed needs clips of 8 frames, not 7"):
        draw_pretext("speed", torch.zeros(1, 3, 7, 8, 8), torch.Generator())
