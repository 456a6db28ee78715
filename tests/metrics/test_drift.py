"""Drift: what each measure is of patterns whose values are known, and that it tells a shift from a blur."""

import numpy as np
import pytest

from vidgen.metrics.drift import describe_drift, measure_segment


def stripes(low: int, high: int, frames: int = 2) -> np.ndarray:
    """Columns of two grey levels in turn."""
    clip = np.full((frames, 6, 8, 3), low, np.uint8)
    clip[:, :, 1::2] = high
    return clip


def test_measures_of_stripes():
    segment = measure_segment(stripes(100, 140), start=5)
    assert (segment.start, segment.num_frames) == (5, 2)
    np.testing.assert_allclose(segment.colour, (120, 120, 120))
    np.testing.assert_allclose(segment.contrast, 20)
    # 6 x 7 differences across of 40, and 5 x 8 down of 0
    np.testing.assert_allclose(segment.sharpness, np.sqrt(42 * 40**2 / 82))


def test_green_counts_as_it_is_seen():
    clip = np.zeros((1, 2, 2, 3), np.uint8)
    clip[:, 0, :, 1] = 100
    segment = measure_segment(clip)
    np.testing.assert_allclose(segment.colour, (0, 50, 0))
    np.testing.assert_allclose(segment.contrast, 35.76)


def test_a_shift_of_colour_is_no_loss_of_sharpness():
    first = stripes(100, 140)
    shifted = describe_drift([measure_segment(first), measure_segment(first + np.array([10, 0, 0], np.uint8), 2)])
    assert (shifted["colour"], shifted["contrast"], shifted["sharpness"]) == (10.0, 1.0, 1.0)
    softer = describe_drift([measure_segment(first), measure_segment(stripes(110, 130), 2)])
    assert (softer["colour"], softer["contrast"], softer["sharpness"]) == (0.0, 0.5, 0.5)
    assert [row["start"] for row in softer["segments"]] == [0, 2]


def test_what_has_no_contrast_has_no_ratio():
    flat = measure_segment(np.full((1, 2, 2, 3), 7, np.uint8))
    assert describe_drift([flat, flat]) | {"segments": []} == {
        "colour": 0.0,
        "contrast": None,
        "sharpness": None,
        "segments": [],
    }
    with pytest.raises(ValueError, match=r"frames \(1, 1, 1, 3\) must be"):
        measure_segment(np.zeros((1, 1, 1, 3), np.uint8))
