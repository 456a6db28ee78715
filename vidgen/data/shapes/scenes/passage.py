"""A straight way past a still screen, large enough to hide what goes behind it; and how much of an object is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import reduce
from jaxtyping import Float

from vidgen.data.shapes.labels import ObjectLabels, ShapeWorldConfig
from vidgen.data.shapes.motions import MARGIN
from vidgen.data.shapes.outlines import REACH, SQUARE_HALF, coverage
from vidgen.data.shapes.scenes.scene import draw_radius, make_object

# Of the shorter side: half of the screen, the radius of what passes, and how far from the middle its lane may be.
SCREEN = 0.23
RADIUS = 0.08
LANE = 0.1
WAYS = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))
HIDDEN = 0.01  # what is seen of an object that counts as hidden


@dataclass(frozen=True, kw_only=True, eq=False)
class Passage:
    """Unit vectors `along` the way and `across` it, the screen's `center`, the `reach` of the way to both sides of it,
    and the `radius` of what goes there, in pixels. Any shape fits, on any lane."""

    along: Float[np.ndarray, " 2"]
    across: Float[np.ndarray, " 2"]
    center: Float[np.ndarray, " 2"]
    reach: float
    radius: float
    half: float

    def path(self, time: Float[np.ndarray, " t"], lane: float = 0.0) -> Float[np.ndarray, "t 2"]:
        """Return the centers at times from 0, wholly on one side of the screen, to 1, wholly on the other; lane in
        pixels."""
        return self.center + np.outer((2 * time - 1) * self.reach, self.along) + lane * self.across

    def screen(self, colour: str, frames: int, config: ShapeWorldConfig, half: float | None = None) -> ObjectLabels:
        """Return a square that rests in the middle of the way, by default large enough to hide what is behind it."""
        position = np.repeat(self.center[None], frames, axis=0)
        radius = (self.half if half is None else half) / SQUARE_HALF
        return make_object({"shape": "square", "colour": colour}, "still", position, radius, config)


def draw_passage(rng: np.random.Generator, config: ShapeWorldConfig) -> Passage:
    """Draw a way past the middle of the frame."""
    frame = np.array([config.width, config.height], np.float64)
    radius = draw_radius(rng, RADIUS, config)
    half = SCREEN * config.unit
    reach = half + max(REACH.values()) * radius + MARGIN * config.unit
    along = np.array(WAYS[rng.integers(len(WAYS))])
    across = np.abs(along[::-1])
    room = np.abs(along) * (reach + max(REACH.values()) * radius) + across * half + MARGIN * config.unit
    center = rng.uniform(np.minimum(room, frame / 2), np.maximum(frame - room, frame / 2))
    return Passage(along=along, across=across, center=center, reach=reach, radius=radius, half=half)


def visible_share(objects: Sequence[ObjectLabels], number: int, config: ShapeWorldConfig) -> Float[np.ndarray, " t"]:
    """Return the share of object `number` that those painted after it leave visible, as the renderer covers pixels."""
    own = cover(objects[number], config)
    visible = own.copy()
    for other in objects[number + 1 :]:
        visible *= 1 - cover(other, config)
    return reduce(visible, "t h w -> t", "sum") / reduce(own, "t h w -> t", "sum")


def cover(thing: ObjectLabels, config: ShapeWorldConfig) -> Float[np.ndarray, "t h w"]:
    """Return the share of each pixel that an object covers."""
    x = np.arange(config.width) + 0.5 - thing.position[:, :1]  # t w
    y = np.arange(config.height) + 0.5 - thing.position[:, 1:]  # t h
    radius, angle = thing.radius[:, None, None], thing.angle[:, None, None]
    return coverage(thing.shape, x[:, None, :], y[:, :, None], radius, angle)
