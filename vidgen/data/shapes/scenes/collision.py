"""Two objects come to meet head on: they touch and turn back, or stop just short of it, wait, and turn back."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from vidgen.data.shapes.captions import finish
from vidgen.data.shapes.labels import Event, ShapeWorldConfig
from vidgen.data.shapes.motions import find_room
from vidgen.data.shapes.outlines import REACH, extents
from vidgen.data.shapes.scenes.scene import Scene, draw_looks, draw_radius, make_object

ROUND = ("circle", "ring")  # these touch where their distance is the sum of their reaches, from whatever side
# Of the shorter side: radius, the way of each until they meet, and how much room is left between those that do not.
RADIUS = 0.1
WAY = (0.13, 0.19)
ROOM = 0.1
WHEN = (0.3, 0.7)  # of the clip
SIDES = (-1.0, 1.0)


def draw_collision(rng: np.random.Generator, config: ShapeWorldConfig) -> tuple[Scene, Scene]:
    """Draw two scenes: one in which the objects meet, and one in which they stop short; the same but for the frames
    around the moment of meeting.

    Labels: meets, "meet" or "miss"; meets_at, in seconds, of those that do.
    """
    time = np.arange(config.num_frames)
    looks = draw_looks(rng, 2, ROUND)
    contact = None
    while contact is None:
        radii = [draw_radius(rng, RADIUS, config) for _ in looks]
        when = round(float(rng.uniform(*WHEN)) * (len(time) - 1))
        gone = np.minimum(np.abs(time - when) / when, 1.0)  # back where they began, they rest
        left = config.unit * rng.uniform(*WAY) * gone  # of the way of each, in pixels
        angle = rng.uniform(0, 2 * np.pi)
        axis = np.array([np.cos(angle), np.sin(angle)])
        reaches = [REACH[look["shape"]] * radius for look, radius in zip(looks, radii, strict=True)]
        paths = [side * np.outer(left + reach, axis) for side, reach in zip(SIDES, reaches, strict=True)]
        contact = draw_contact(rng, [look["shape"] for look in looks], paths, radii, config)
    short = np.maximum(ROOM * config.unit / 2 - left, 0.0)
    scenes = []
    for word, more in (("meet", 0 * left), ("miss", short)):
        ways = [contact + path + side * np.outer(more, axis) for side, path in zip(SIDES, paths, strict=True)]
        objects = tuple(
            make_object(look, "bounce", way, radius, config)
            for look, way, radius in zip(looks, ways, radii, strict=True)
        )
        first, second = (f"@ {look['colour']} {look['shape']}" for look in looks)
        does = "meet and turn back" if word == "meet" else "stop before they meet, and turn back"
        tasks = {"meets": word}
        events = ()
        if word == "meet":
            tasks["meets_at"] = when / config.fps
            events = tuple(Event(frame=when, object=number, name="meets") for number in (0, 1))
        scenes.append(
            Scene(objects=objects, caption=finish(f"{first} and {second} {does}"), tasks=tasks, events=events)
        )
    return tuple(scenes)


def draw_contact(
    rng: np.random.Generator,
    shapes: list[str],
    paths: list[Float[np.ndarray, "t 2"]],
    radii: list[float],
    config: ShapeWorldConfig,
) -> Float[np.ndarray, " 2"] | None:
    """Draw a place in the frame from which both paths stay inside it, uniform among them; None where there is none."""
    upright = np.zeros(len(paths[0]))
    sizes = [extents(shape, upright + radius, upright) for shape, radius in zip(shapes, radii, strict=True)]
    rooms = [find_room(path, *size, config) for path, size in zip(paths, sizes, strict=True)]
    low, high = np.maximum(rooms[0][0], rooms[1][0]), np.minimum(rooms[0][1], rooms[1][1])
    return rng.uniform(low, high) if np.all(low <= high) else None
