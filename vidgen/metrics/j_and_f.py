"""J and F, by which DAVIS compares masks: overlap of regions and agreement of contours; and the overlap of boxes."""

from __future__ import annotations

from math import ceil, hypot

import numpy as np
from jaxtyping import Bool, Float

TOLERANCE = 0.008  # of the frame's diagonal, by which a contour may be off (DAVIS's own)


def region_similarity(mask: Bool[np.ndarray, "*n h w"], truth: Bool[np.ndarray, "*n h w"]) -> Float[np.ndarray, "*n"]:
    """Return J, the intersection over the union (Perazzi et al. 2016, section 4.1); 1 where both are empty."""
    intersection = (mask & truth).sum((-2, -1))
    union = (mask | truth).sum((-2, -1))
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def boundary_measure(
    mask: Bool[np.ndarray, "*n h w"], truth: Bool[np.ndarray, "*n h w"], tolerance: float = TOLERANCE
) -> Float[np.ndarray, "*n"]:
    """Return F, the harmonic mean of precision and recall of contour pixels (Perazzi et al. 2016, section 4.1).

    A contour pixel is matched where the other contour comes as near as `tolerance` times the frame's diagonal, rounded
    up to whole pixels. An empty contour is fully precise, and an empty truth fully recalled: F is 1 where both are.
    """
    contour = find_contours(mask)
    true_contour = find_contours(truth)
    radius = ceil(tolerance * hypot(*mask.shape[-2:]))
    precision = _share(contour & _grow(true_contour, radius), contour)
    recall = _share(true_contour & _grow(contour, radius), true_contour)
    total = precision + recall
    return np.where(total > 0, 2 * precision * recall / np.where(total > 0, total, 1.0), 0.0)


def find_contours(mask: Bool[np.ndarray, "*n h w"]) -> Bool[np.ndarray, "*n h w"]:
    """Return the pixels that differ from their right, lower or lower right neighbor."""
    contour = np.zeros_like(mask)
    contour[..., :, :-1] |= mask[..., :, :-1] ^ mask[..., :, 1:]
    contour[..., :-1, :] |= mask[..., :-1, :] ^ mask[..., 1:, :]
    contour[..., :-1, :-1] |= mask[..., :-1, :-1] ^ mask[..., 1:, 1:]
    return contour


def box_overlap(box: Float[np.ndarray, "*n 4"], truth: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n"]:
    """Return the intersection over union of boxes (left, top, right, bottom)."""
    low = np.maximum(box[..., :2], truth[..., :2])
    high = np.minimum(box[..., 2:], truth[..., 2:])
    intersection = np.clip(high - low, 0, None).prod(-1)
    areas = [(corners[..., 2:] - corners[..., :2]).prod(-1) for corners in (box, truth)]
    return intersection / np.maximum(areas[0] + areas[1] - intersection, 1e-9)


def _grow(mask: Bool[np.ndarray, "*n h w"], radius: int) -> Bool[np.ndarray, "*n h w"]:
    """Return the mask and all within `radius` pixels of it."""
    from scipy import ndimage

    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (x * x + y * y <= radius * radius)[(None,) * (mask.ndim - 2)]
    return ndimage.binary_dilation(mask, disk)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    count = whole.sum((-2, -1))
    return np.where(count > 0, part.sum((-2, -1)) / np.maximum(count, 1), 1.0)
