"""Invariance curves: transformations that are known exactly, and features that are invariant by construction."""

import pytest
import torch

from vidgen.representations.analysis.invariance import (
    TRANSFORMATIONS,
    compare,
    measure_invariance,
    occlude,
    rotate,
    slow_frames,
    translate,
    warp,
    zoom,
)


def draw_clips(count=6, frames=8, height=24, width=24, seed=0):
    return torch.rand(count, 3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("size", [(24, 24), (16, 32), (30, 18)])
def test_a_quarter_turn_is_exact_and_four_are_none(size):
    video = draw_clips(height=size[0], width=size[0])
    turned = rotate(video, 90, generator())
    ways = [torch.allclose(turned[i], torch.rot90(video[i], k, (-2, -1)), atol=1e-4) for i in range(6) for k in (1, 3)]
    assert sum(ways) == 6
    oblong = draw_clips(height=size[0], width=size[1])
    assert torch.allclose(rotate(oblong, 360, generator()), oblong, atol=1e-3)
    assert torch.allclose(rotate(oblong, 180, generator()), oblong.flip(-1, -2), atol=1e-3)


def test_whole_pixels_move_whole():
    video = draw_clips(height=16, width=32)
    matrix = torch.eye(2, 3).repeat(6, 1, 1)
    matrix[:, 0, 2] = 2 * 4 / 16  # 4 pixels, in halves of the shorter side
    assert torch.allclose(warp(video, matrix)[..., :28], video[..., 4:], atol=1e-4)
    far = translate(video, 0.25, generator())
    assert not torch.allclose(far, video, atol=0.1) and torch.allclose(
        translate(video, 0.0, generator()), video, atol=1e-4
    )


def test_zoom_keeps_the_middle_and_its_proportions():
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(64) - 31.5, indexing="ij")
    ramp = torch.stack([x / 40, y / 40, 0 * x])[None, :, None]
    assert torch.allclose(zoom(ramp, 2.0, generator()), ramp / 2, atol=1e-4)


def test_occlusion_hides_its_share():
    video = draw_clips(height=20, width=40).abs() + 0.1
    for grade in (0.0, 0.25, 1.0):
        hidden = (occlude(video, grade, generator()) == 0).float().mean(dim=(1, 2, 3, 4))
        assert torch.allclose(hidden, torch.full((6,), grade), atol=0.01)


def test_frames_are_held():
    video = draw_clips(frames=7)
    assert torch.equal(slow_frames(video, 3, generator()), video[:, :, [0, 0, 0, 3, 3, 3, 6]])


def test_features_are_as_invariant_as_they_are_made():
    video = draw_clips(count=10)
    extract = {
        "first frame": lambda x: x[:, :, 0].flatten(1),
        "colour": lambda x: x.mean(dim=(2, 3, 4)),
        "constant": lambda x: x.new_ones(len(x), 4),
    }
    points = measure_invariance(lambda x: {name: f(x) for name, f in extract.items()}, video, batch_size=4)
    table = {(p.layer, p.transformation, p.grade): p for p in points}
    assert len(table) == 3 * sum(len(t.grades) for t in TRANSFORMATIONS.values())
    for grade in TRANSFORMATIONS["frame rate"].grades:
        held = table["first frame", "frame rate", grade]
        assert held.cosine.mean == pytest.approx(1.0) and held.nearest.mean == 1.0
    assert table["colour", "rotation", 90].cosine.mean == pytest.approx(1.0, abs=1e-4)
    curve = [table["first frame", "occlusion", g].cosine.mean for g in TRANSFORMATIONS["occlusion"].grades]
    assert curve == sorted(curve, reverse=True) and curve[0] > 0.9 > curve[-1] > 0.4
    assert abs(table["first frame", "translation", 0.4].cosine.mean) < 0.2
    assert table["constant", "zoom", 2.0].nearest.mean == 0.0  # what tells no clips apart finds none


def test_the_comparison_by_hand():
    before = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    cosine, nearest = compare(before, before[[0, 1, 3, 3]])
    assert cosine.mean == pytest.approx((1 + 1 - 1 + 1) / 4) and nearest.mean == 0.75


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="'shear' is unknown"):
        measure_invariance(lambda x: {}, draw_clips(), ["shear"])
    with pytest.raises(ValueError, match="needs two, got 1"):
        measure_invariance(lambda x: {}, draw_clips(count=1))
