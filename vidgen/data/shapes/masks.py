"""Exact masks, boxes and tracks of points, from the same labels that a clip is rendered from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from vidgen.data.shapes.labels import ClipLabels, ObjectLabels
from vidgen.data.shapes.outlines import RING_INNER, RING_OUTER, coverage, extents

# Points that move with an object of radius 1, upright: four around its center, and well inside of it.
POINTS = np.array([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])
POINT_RADIUS = {"ring": (RING_OUTER + RING_INNER) / 2}  # half the radius for other shapes


def render_masks(
    labels: ClipLabels, height: int, width: int, frames: Sequence[int] | None = None
) -> Float[np.ndarray, "o t h w"]:
    """Return the share of each pixel that shows each object, float32; what is painted later hides what is behind it.

    height, width: of the clip that the labels' positions are pixels of. frames: only these, in their order.
    """
    chosen = np.arange(labels.num_frames) if frames is None else np.asarray(frames, dtype=np.int64)
    masks = np.empty((len(labels.objects), len(chosen), height, width), np.float32)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    for number, thing in enumerate(labels.objects):
        for k, t in enumerate(chosen):
            left, top = thing.position[t].astype(np.float32)
            share = coverage(thing.shape, x - left, y - top, float(thing.radius[t]), float(thing.angle[t]))
            masks[:number, k] *= 1 - share
            masks[number, k] = share
    return masks


def find_boxes(labels: ClipLabels, frames: Sequence[int] | None = None) -> Float[np.ndarray, "o t 4"]:
    """Return the box (left, top, right, bottom) in pixels around each whole object, hidden parts included."""
    chosen = slice(None) if frames is None else np.asarray(frames, dtype=np.int64)
    boxes = []
    for thing in labels.objects:
        low, high = extents(thing.shape, thing.radius, thing.angle)
        boxes.append(np.concatenate([thing.position - low, thing.position + high], axis=-1)[chosen])
    return np.stack(boxes)


def find_points(labels: ClipLabels, frames: Sequence[int] | None = None) -> Float[np.ndarray, "o p t 2"]:
    """Return where (x, y), in pixels, the `POINTS` of each object are: they move, turn and grow with it."""
    chosen = slice(None) if frames is None else np.asarray(frames, dtype=np.int64)
    return np.stack([_points(thing)[:, chosen] for thing in labels.objects])


def _points(thing: ObjectLabels) -> Float[np.ndarray, "p t 2"]:
    cos, sin = np.cos(thing.angle), np.sin(thing.angle)
    turned = [np.stack([x * cos - y * sin, x * sin + y * cos], axis=-1) for x, y in POINTS]
    return thing.position + POINT_RADIUS.get(thing.shape, 0.5) * np.stack(turned) * thing.radius[:, None]
