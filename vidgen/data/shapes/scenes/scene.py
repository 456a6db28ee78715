"""What a scene is: objects whose labels are asked for, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from vidgen.data.shapes.labels import COLOURS, DIRECTIONS, SHAPES, SIZES, Event, ObjectLabels, ShapeWorldConfig
from vidgen.data.shapes.motions import SIZE_JITTER, Track, find_room
from vidgen.data.shapes.outlines import extents
from vidgen.data.shapes.world import label_track


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Objects in the order they are painted, a true caption, and labels by name beside those of `label_tasks`."""

    objects: tuple[ObjectLabels, ...]
    caption: str
    tasks: dict[str, Any]
    events: tuple[Event, ...] = ()
    ordered: bool = False


@dataclass(frozen=True, kw_only=True)
class SceneKind:
    """draw(rng, config): the `variants` scenes of a group, alike but for what is asked, so that every label is as
    frequent as every other. `stream` is the number of its random stream, above those of the plain world."""

    draw: Callable[[np.random.Generator, ShapeWorldConfig], tuple[Scene, ...]]
    variants: int
    stream: int
    least_frames: int


def draw_looks(rng: np.random.Generator, count: int, shapes: tuple[str, ...] = SHAPES) -> list[dict[str, str]]:
    """Draw shape and colour of `count` objects of different colours."""
    colours = rng.permutation(list(COLOURS))[:count]
    return [{"shape": str(rng.choice(shapes)), "colour": str(colour)} for colour in colours]


def draw_radius(rng: np.random.Generator, share: float, config: ShapeWorldConfig) -> float:
    """Draw a radius of about `share` of the shorter side, in pixels."""
    return share * config.unit * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)


def draw_start(
    rng: np.random.Generator,
    shape: str,
    path: Float[np.ndarray, "t 2"],
    radius: Float[np.ndarray, " t"],
    config: ShapeWorldConfig,
) -> Float[np.ndarray, " 2"] | None:
    """Draw a first center from which `path` stays inside the frame, uniform among them; None where there is none."""
    low, high = find_room(path, *extents(shape, radius, np.zeros(len(radius))), config)
    return rng.uniform(low, high) if np.all(low <= high) else None


def make_object(
    look: dict[str, str],
    motion: str,
    position: Float[np.ndarray, "t 2"],
    radius: float | Float[np.ndarray, " t"],
    config: ShapeWorldConfig,
) -> ObjectLabels:
    """Return an upright object that acts from the first frame in which it changes to the last, or if it never does in
    all. Its word for size is the nearest; positions and radii are exact."""
    radii = np.broadcast_to(np.asarray(radius, np.float64), len(position)).copy()
    share = radii[0] / config.unit
    words = {**look, "motion": motion, "size": min(SIZES, key=lambda word: abs(SIZES[word] - share))}
    changes = np.flatnonzero(np.diff(position, axis=0).any(axis=1) | (np.diff(radii) != 0))
    span = (int(changes[0]), int(changes[-1]) + 2) if len(changes) else (0, len(radii))
    return label_track(words, Track(position=position, radius=radii, angle=np.zeros(len(radii))), span)


def name_direction(way: Float[np.ndarray, " 2"]) -> str:
    """Return the word of DIRECTIONS that points most as (x, y) does."""
    return max(DIRECTIONS, key=lambda name: float(np.dot(way, DIRECTIONS[name])))
