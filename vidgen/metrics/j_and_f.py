"""Masks against masks, as DAVIS measures them: overlap of regions J, agreement of contours F; and boxes."""

from __future__ import annotations

from math import ceil, hypot

import numpy as np
from jaxtyping import Bool, Float

TOLERANCE = 0.008  # of the frame's diagonal, by which a contour may be off (DAVIS's own)


def region_similarity(mask: Bool[np.ndarray, "*n h w"], truth: Bool[np.ndarray, "*n h w"]) -> Float[np.ndarray, "*n"]:
    """J, the intersection over the union (Perazzi et al. 2016, section 4.1); 1 where both are empty."""
    both, either = (mask & truth).sum((-2, -1)), (mask | truth).sum((-2, -1))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def boundary_measure(
    mask: Bool[np.ndarray, "*n h w"], truth: Bool[np.ndarray, "*n h w"], tolerance: float = TOLERANCE
) -> Float[np.ndarray, "*n"]:
    """F, the harmonic mean of precision and recall of contour pixels (Perazzi et al. 2016, section 4.1).

    A contour pixel is matched where the other contour comes as near as `tolerance` times the frame's diagonal, rounded
    up to whole pixels. An empty contour is fully precise, and an empty truth fully recalled: F is 1 where both are.
    """
    mine, theirs = find_contours(mask), find_contours(truth)
    radius = ceil(tolerance * hypot(*mask.shape[-2:]))
    precision = _share(mine & _grow(theirs, radius), mine)
    recall = _share(theirs & _grow(mine, radius), theirs)
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1.0), 0.0)


def find_contours(mask: Bool[np.ndarray, "*n h w"]) -> Bool[np.ndarray, "*n h w"]:
    """Pixels that differ from their right, lower or lower right neighbour."""
    contour = np.zeros_like(mask)
    contour[..., :, :-1] |= mask[..., :, :-1] ^ mask[..., :, 1:]
    contour[..., :-1, :] |= mask[..., :-1, :] ^ mask[..., 1:, :]
    contour[..., :-1, :-1] |= mask[..., :-1, :-1] ^ mask[..., 1:, 1:]
    return contour


def box_overlap(box: Float[np.ndarray, "*n 4"], truth: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
    """Intersection over union of boxes (left, top, right, bottom)."""
    low, high = np.maximum(box[..., :2], truth[..., :2]), np.minimum(box[..., 2:], truth[..., 2:])
    both = np.clip(high - low, 0, None).prod(-1)
    areas = [(one[..., 2:] - one[..., :2]).prod(-1) for one in (box, truth)]
    return both / np.maximum(areas[0] + areas[1] - both, 1e-9)


def _grow(mask: Bool[np.ndarray, "*n h w"], radius: int) -> Bool[np.ndarray, "*n h w"]:
    """The mask and all within `radius` pixels of it."""
    from scipy import ndimage

    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius)[(None,) * (mask.ndim - 2)]
    return ndimage.binary_dilation(mask, disk)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    count = whole.sum((-2, -1))
    return np.where(count > 0, part.sum((-2, -1)) / np.maximum(count, 1), 1.0)
