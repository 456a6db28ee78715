"""Outlines of the shapes as signed distances, shared by the renderer and the checker's templates."""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Float

# Proportions for a shape of radius 1, chosen so that areas are alike and every feature of a radius of 8 px
# (arms, notches, hole) is at least 5 px wide.
SQUARE_HALF = 0.88
TRIANGLE_OUTER = 1.28
STAR_OUTER, STAR_INNER = 1.32, 0.56
CROSS_LENGTH, CROSS_HALF = 1.12, 0.36
RING_OUTER, RING_INNER = 1.12, 0.56

# Turning by this angle maps the shape to itself; 0 stands for any angle.
SYMMETRY: dict[str, float] = {
    "circle": 0.0,
    "square": np.pi / 2,
    "triangle": 2 * np.pi / 3,
    "star": 2 * np.pi / 5,
    "cross": np.pi / 2,
    "ring": 0.0,
}

# Distance from the center to the farthest point, for radius 1.
REACH: dict[str, float] = {
    "circle": 1.0,
    "square": SQUARE_HALF * 2**0.5,
    "triangle": TRIANGLE_OUTER,
    "star": STAR_OUTER,
    "cross": float(np.hypot(CROSS_LENGTH, CROSS_HALF)),
    "ring": RING_OUTER,
}


@cache
def unit_area(shape: str) -> float:
    """Return the area of a shape of radius 1."""
    fine = (np.arange(512) + 0.5) / 512 * 4 - 2
    return float(coverage(shape, *[128 * axis for axis in np.meshgrid(fine, fine)], 128.0, 0.0).mean() * 16)


def _corners(shape: str) -> Float[np.ndarray, "n 2"] | None:
    """Return outermost points for radius 1 and angle 0, or None for a round shape."""
    if shape == "square":
        angles = np.pi / 4 + np.arange(4) * np.pi / 2
        reach = REACH["square"]
    elif shape == "cross":
        tilt = np.arctan2(CROSS_HALF, CROSS_LENGTH)
        angles = (np.arange(4)[:, None] * np.pi / 2 + np.array([-tilt, tilt])).ravel()
        reach = REACH["cross"]
    elif shape in ("triangle", "star"):
        count = 3 if shape == "triangle" else 5
        angles = -np.pi / 2 + np.arange(count) * 2 * np.pi / count
        reach = REACH[shape]
    else:
        return None
    return reach * np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def extents(
    shape: str, radius: Float[np.ndarray, " t"], angle: Float[np.ndarray, " t"]
) -> tuple[Float[np.ndarray, "t 2"], Float[np.ndarray, "t 2"]]:
    """Return how far the shape reaches from its center towards smaller and larger (x, y), in pixels, both >= 0."""
    corners = _corners(shape)
    if corners is None:
        both = np.repeat((REACH[shape] * radius)[:, None], 2, axis=1)
        return both, both
    cos, sin = np.cos(angle), np.sin(angle)
    x = np.outer(cos, corners[:, 0]) - np.outer(sin, corners[:, 1])  # t n
    y = np.outer(sin, corners[:, 0]) + np.outer(cos, corners[:, 1])
    low = np.stack([-x.min(1), -y.min(1)], axis=-1) * radius[:, None]
    high = np.stack([x.max(1), y.max(1)], axis=-1) * radius[:, None]
    return low, high


def _fold(x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Map every point to the half wedge 0 <= angle <= pi / count that holds its mirror images (upright at -y)."""
    sector = 2 * np.pi / count
    angle = np.arctan2(x, -y)  # 0 points up, where the first corner is
    angle = np.abs(angle - sector * np.round(angle / sector))
    distance = np.hypot(x, y)
    return distance * np.cos(angle), distance * np.sin(angle)


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """Return the distance in pixels of points (x, y), relative to the center of an upright shape, to its outline: < 0
    inside.

    Exact near the edges; near a corner it is the distance to the nearest edge's line, which keeps corners sharp.
    Raises ValueError for an unknown shape.
    """
    if shape == "circle":
        return np.hypot(x, y) - radius
    if shape == "ring":
        middle, half = (RING_OUTER + RING_INNER) / 2, (RING_OUTER - RING_INNER) / 2
        return np.abs(np.hypot(x, y) - middle * radius) - half * radius
    if shape == "square":
        return np.maximum(np.abs(x), np.abs(y)) - SQUARE_HALF * radius
    if shape == "cross":
        x, y = np.abs(x), np.abs(y)
        return np.maximum(np.maximum(x, y) - CROSS_LENGTH * radius, np.minimum(x, y) - CROSS_HALF * radius)
    if shape == "triangle":
        along, across = _fold(x, y, 3)
        return along * 0.5 + across * (3**0.5 / 2) - TRIANGLE_OUTER * 0.5 * radius
    if shape == "star":
        along, across = _fold(x, y, 5)
        # The edge runs from the tip (outer, 0) to the notch, at angle pi / 5 and distance inner.
        notch = STAR_INNER * np.cos(np.pi / 5), STAR_INNER * np.sin(np.pi / 5)
        normal = np.array([notch[1], STAR_OUTER - notch[0]])
        normal /= np.hypot(*normal)
        return along * normal[0] + across * normal[1] - STAR_OUTER * normal[0] * radius
    raise ValueError(f"unknown shape {shape!r}")


def coverage(
    shape: str, x: np.ndarray, y: np.ndarray, radius: np.ndarray | float, angle: np.ndarray | float
) -> np.ndarray:
    """Return the share in [0, 1] of each unit pixel, centered at (x, y) from the shape's center, that the turned shape
    covers."""
    cos, sin = np.cos(angle), np.sin(angle)
    distance = signed_distance(shape, x * cos + y * sin, y * cos - x * sin, radius)
    return np.clip(0.5 - distance, 0.0, 1.0)
