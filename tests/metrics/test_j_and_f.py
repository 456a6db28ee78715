"""J and F of masks: identical ones, a displaced square in closed form, and peers on the same masks."""

import numpy as np
import pytest
import torch

from vidgen.metrics.j_and_f import boundary_measure, box_overlap, find_contours, region_similarity


def square(left: int, top: int = 20, side: int = 16, size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_identical_masks_are_perfect_and_disjoint_ones_worthless():
    blobs = np.random.default_rng(0).random((2, 3, 40, 50)) > 0.7
    assert np.all(region_similarity(blobs, blobs) == 1) and np.all(boundary_measure(blobs, blobs) == 1)
    assert region_similarity(square(0), square(40)) == boundary_measure(square(0), square(40)) == 0


def test_nothing_against_nothing_and_against_something():
    empty = np.zeros((64, 64), bool)
    assert region_similarity(empty, empty) == boundary_measure(empty, empty) == 1
    for mask, truth in ((empty, square(9)), (square(9), empty)):
        assert region_similarity(mask, truth) == boundary_measure(mask, truth) == 0


@pytest.mark.parametrize("side, radius, tolerance", [(16, 1, 0.008), (20, 2, 0.02)])
def test_a_displaced_square_in_closed_form(side, radius, tolerance):
    """The contour of a square is a ring of 4 side pixels. Displaced by d along its rows: up to the tolerance r every
    pixel is matched; beyond it side + 1 - d + r pixels of the top, as many of the bottom, and where the displaced left
    side leaves either row, r more each."""
    still = square(10, side=side)
    assert find_contours(still).sum() == 4 * side
    for d in range(side - radius - 1):
        moved = square(10 + d, side=side)
        f = 1.0 if d <= radius else (2 * (side + 1 - d + radius) + 2 * radius) / (4 * side)
        assert boundary_measure(moved, still, tolerance) == pytest.approx(f), d
        assert region_similarity(moved, still) == pytest.approx((side - d) / (side + d))


def test_j_is_that_of_scikit_learn_and_torchmetrics():
    from sklearn.metrics import jaccard_score
    from torchmetrics.functional.classification import binary_jaccard_index

    rng = np.random.default_rng(1)
    masks, truths = rng.random((5, 12, 9)) > 0.5, rng.random((5, 12, 9)) > 0.4
    ours = region_similarity(masks, truths)
    np.testing.assert_allclose(ours, [jaccard_score(t.ravel(), m.ravel()) for m, t in zip(masks, truths, strict=True)])
    pairs = zip(torch.tensor(masks).long(), torch.tensor(truths).long(), strict=True)
    peer = [binary_jaccard_index(mask, truth) for mask, truth in pairs]
    np.testing.assert_allclose(ours, peer, rtol=1e-6)


def test_boxes_overlap_as_their_areas_say():
    box = np.array([[0.0, 0, 4, 4], [2, 0, 6, 4], [8, 8, 9, 9]])
    np.testing.assert_allclose(box_overlap(box, np.array([0.0, 0, 4, 4])), [1, 1 / 3, 0])
