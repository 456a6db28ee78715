"""Edits that can be undone, or whose result is known in every pixel."""

import numpy as np
import pytest

from vidgen.data.transforms import LOGO, OPACITY, TRANSFORMS


def test_mirroring_twice_and_speed_are_exact(waves):
    frames = waves(9)
    assert np.array_equal(TRANSFORMS["mirrored"](TRANSFORMS["mirrored"](frames, 8), 8), frames)
    assert np.array_equal(TRANSFORMS["mirrored"](frames, 8)[:, :, 0], frames[:, :, -1])
    assert np.array_equal(TRANSFORMS["speed"](frames, 8), frames[[0, 2, 4, 6, 8]])
    assert TRANSFORMS["unchanged"](frames, 8) is frames


def test_a_logo_changes_its_corner_alone(waves):
    frames = waves(3)
    marked = TRANSFORMS["logo"](frames, 8)
    changed = np.any(marked != frames, axis=(0, 3))
    side = round(LOGO * 48)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert len(rows) == len(columns) == side and rows[0] > 24 and columns[0] > 32
    top, left = rows[0], columns[0]  # the corner of the square is white
    wanted = np.rint(frames[:, top, left] + OPACITY * (250.0 - frames[:, top, left]))
    assert np.array_equal(marked[:, top, left], wanted) and marked.base is not frames


def test_a_crop_magnifies_the_middle():
    y, x = np.mgrid[0:40, 0:60]
    slope = np.stack([x * 4, y * 6, 0 * x], axis=-1).astype(np.uint8)[None]
    cropped = TRANSFORMS["crop"](slope, 8)[0].astype(float)
    assert cropped.shape == (40, 60, 3)
    assert np.abs(cropped[20, 30] - slope[0, 20, 30]).max() <= 4
    steps = np.diff(cropped[20, 5:-5, 0]).mean(), np.diff(cropped[5:-5, 30, 1]).mean()
    assert steps == pytest.approx((4 * 0.8, 6 * 0.8), rel=0.03)


def test_a_higher_rate_factor_costs_more_quality(waves):
    frames = waves(6)
    errors = [np.square(TRANSFORMS[name](frames, 8).astype(float) - frames).mean() for name in ("x264-28", "x264-40")]
    assert 0 < errors[0] < errors[1] < 2000 and TRANSFORMS["x264-40"](frames, 8).shape == frames.shape


def test_no_edit_writes_into_its_input(waves):
    frames = waves(5)
    kept = frames.copy()
    for edit in TRANSFORMS.values():
        out = edit(frames, 8)
        assert out.dtype == np.uint8 and out.shape[1:] == frames.shape[1:]
    assert np.array_equal(frames, kept)
