"""A clip moved by a known vector has that field; what stands or is plain has none; and only the past counts."""

import pytest
import torch

from vidgen.models.warping import spread, warp
from vidgen.tokenizers.keyframes.block_matching import match_blocks


@pytest.mark.parametrize("step", [(-3, 2), (1, 0), (5, -4)])
def test_a_known_translation_is_found_exactly_away_from_the_border(moving, step):
    video = moving(step, 6, 96, 112)
    field = match_blocks(video[:, :, 0], video[:, :, 1:], 16)
    assert field.shape == (1, 2, 5, 6, 7)
    for k in range(1, 6):
        vector = torch.tensor(step, dtype=torch.float64) * k
        top, left = (-(-abs(v) // 16) for v in (vector[1].item(), vector[0].item()))
        inner = field[0, :, k - 1, int(top) : 6 - int(top), int(left) : 7 - int(left)]
        assert inner.numel() and torch.equal(inner, vector[:, None, None].expand_as(inner))


@pytest.mark.parametrize("vector", [(0.5, -0.25), (-1.25, 2.0), (2.75, 1.5)])
def test_quarters_of_a_pixel_are_found(moving, vector):
    key = moving((1, 0), 1)[:, :, 0]
    flow = torch.tensor(vector, dtype=torch.float64)[None, :, None, None, None].expand(1, 2, 1, 64, 80)
    field = match_blocks(key, warp(key, flow), 16)
    assert torch.equal(field[..., 1:-1, 1:-1], flow[..., 1:3, 1:4])


def test_what_stands_and_what_is_plain_has_no_motion(moving):
    still = moving((1, 0), 1).expand(-1, -1, 4, -1, -1)
    assert not match_blocks(still[:, :, 0], still[:, :, 1:], 16).any()
    plain = torch.linspace(-1, 1, 4)[None, None, :, None, None].expand(2, 3, -1, 32, 32)
    assert not match_blocks(plain[:, :, 0], plain[:, :, 1:], 16).any()


def test_only_what_moves_has_vectors_and_warping_by_them_gives_the_clip(moving):
    ground, thing = moving((1, 0), 1)[:, :, 0], moving((1, 0), 1)[:, :, 0, 20:36, 30:46].flip(2)
    frames = []
    for k in range(3):  # by a block's width at the end, so that its blocks are its own
        frame = ground.clone()
        frame[:, :, 16:32, 16 + 8 * k : 32 + 8 * k] = thing
        frames.append(frame)
    video = torch.stack(frames, dim=2)
    field = match_blocks(video[:, :, 0], video[:, :, 1:], 16)
    assert field[0, :, 1, 1, 2].tolist() == [-16, 0]
    still = [(i, j) for i in range(4) for j in range(5) if (i, j) not in ((1, 1), (1, 2))]
    assert all(not field[0, :, 1, i, j].any() for i, j in still)
    moved = warp(video[:, :, 0], spread(field, 16))
    assert torch.equal(moved[:, :, 1, 16:32, 32:48], video[:, :, 2, 16:32, 32:48])


def test_fields_depend_on_the_past_only_and_on_no_other_clip(moving):
    video = moving((2, 1), 5).repeat(2, 1, 1, 1, 1)
    changed = video.clone()
    changed[1, :, 3] = -changed[1, :, 3]
    before, after = (match_blocks(v[:, :, 0], v[:, :, 1:], 16) for v in (video, changed))
    assert torch.equal(before[:, :, :2], after[:, :, :2]) and torch.equal(before[0], after[0])
    assert not torch.equal(before[1, :, 2], after[1, :, 2])


def test_frames_that_are_no_whole_blocks_are_refused():
    with pytest.raises(ValueError, match=r"\(60, 64\) are not whole blocks of 16"):
        match_blocks(torch.zeros(1, 3, 60, 64), torch.zeros(1, 3, 1, 60, 64))
    assert match_blocks(torch.zeros(1, 3, 32, 64), torch.zeros(1, 3, 0, 32, 64)).shape == (1, 2, 0, 2, 4)
