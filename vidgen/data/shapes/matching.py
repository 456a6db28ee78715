"""Which shape a soft mask is, and how far it is turned: comparison with templates of every shape and angle."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from einops import rearrange, reduce
from jaxtyping import Float
from scipy import ndimage

from vidgen.data.shapes.labels import SHAPES
from vidgen.data.shapes.outlines import SYMMETRY, coverage, unit_area

# Masks are compared on a grid of this many cells a side, after scaling to a common area.
GRID = 28
# Half the side of the grid, in units of the square root of the area: the star reaches 0.9.
HALF_SIDE = 1.05
ANGLE_STEP = np.radians(4)
# Templates are softened, in cells, like the picture of a small object and like one whose colour was stored at half
# the resolution (as in most video files), so that blur costs no shape more than another.
SOFTNESS = (0.7, 1.8)
# Mean agreement below this is no known shape: blurred and noisy true shapes reach 0.93; ellipses, half discs and
# boxes of 3:2 do not reach 0.91.
MIN_AGREEMENT = 0.91
# The share of frames that must show the shape the whole clip is taken for.
MIN_CONSISTENCY = 0.7


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeFit:
    """shape: the best one over all frames or None; agreement: mean soft Dice of each shape; angle: radians per frame
    of the best shape, unwrapped over its symmetry (0 for round shapes)."""

    shape: str | None
    agreement: dict[str, float]
    angle: Float[np.ndarray, " t"]


def _grid() -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(GRID) + 0.5) / GRID * 2 * HALF_SIDE - HALF_SIDE
    return np.meshgrid(axis, axis)


@cache
def templates(shape: str) -> tuple[Float[np.ndarray, "n cells"], Float[np.ndarray, " n"]]:
    """Return pictures of a shape of area 1, at angles that cover its symmetry and each softness, and these angles."""
    step = SYMMETRY[shape] / max(round(SYMMETRY[shape] / ANGLE_STEP), 1)
    angles = np.arange(round(SYMMETRY[shape] / step)) * step if step else np.zeros(1)
    radius = unit_area(shape) ** -0.5
    cell = 2 * HALF_SIDE / GRID
    x, y = (axis / cell for axis in _grid())
    pictures = np.stack([coverage(shape, x, y, radius / cell, angle) for angle in angles])
    softened = np.stack([ndimage.gaussian_filter(pictures, (0, softness, softness)) for softness in SOFTNESS])
    return rearrange(softened, "s n h w -> (s n) (h w)").astype(np.float32), np.tile(angles, len(SOFTNESS))


def _normalize(
    masks: Float[np.ndarray, "t h w"], area: Float[np.ndarray, " t"], center: Float[np.ndarray, "t 2"]
) -> Float[np.ndarray, "t cells"]:
    """Move each mask to the middle of the grid, and scale it to area 1."""
    x, y = _grid()
    scale = np.sqrt(area)[:, None, None]
    columns = center[:, 0, None, None] - 0.5 + x * scale  # t h w
    lines = center[:, 1, None, None] - 0.5 + y * scale
    frame = np.broadcast_to(np.arange(len(masks))[:, None, None], columns.shape)
    sampled = ndimage.map_coordinates(masks, [frame, lines, columns], order=1)
    return rearrange(sampled, "t h w -> t (h w)").astype(np.float32)


def fit_shape(
    masks: Float[np.ndarray, "t h w"], area: Float[np.ndarray, " t"], center: Float[np.ndarray, "t 2"]
) -> ShapeFit:
    """Return the shape that agrees best with the masks, frame by frame free to turn. Areas must be positive."""
    pictures = _normalize(masks, area, center)
    energy = reduce(pictures**2, "t cells -> t 1", "sum")
    dice = {}
    for shape in SHAPES:
        bank, _ = templates(shape)
        dice[shape] = 2 * pictures @ bank.T / (energy + reduce(bank**2, "n cells -> n", "sum"))  # t n
    best = {shape: scores.max(axis=1) for shape, scores in dice.items()}
    agreement = {shape: float(scores.mean()) for shape, scores in best.items()}
    winner = max(agreement, key=agreement.__getitem__)
    others = np.max([best[shape] for shape in SHAPES if shape != winner], axis=0)
    consistent = np.mean(best[winner] >= others) >= MIN_CONSISTENCY
    angle = templates(winner)[1][dice[winner].argmax(axis=1)]
    if SYMMETRY[winner]:
        angle = np.unwrap(angle, period=SYMMETRY[winner])
    is_match = consistent and agreement[winner] >= MIN_AGREEMENT
    return ShapeFit(shape=winner if is_match else None, agreement=agreement, angle=angle)
