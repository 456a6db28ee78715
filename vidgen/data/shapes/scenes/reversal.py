"""Clips that run forward or backward: in this world things slow down and grow, and never the other way round."""

from __future__ import annotations

import numpy as np

from vidgen.data.shapes.captions import finish
from vidgen.data.shapes.labels import DIRECTIONS, SIZES, ShapeWorldConfig
from vidgen.data.shapes.motions import GROWTH, TRAVEL
from vidgen.data.shapes.scenes.scene import Scene, draw_looks, draw_radius, draw_start, make_object, name_direction

ARROWS = ("slowing", "growing")
DECAY = 3.0  # the last speed is exp(-DECAY) of the first


def draw_reversal(rng: np.random.Generator, config: ShapeWorldConfig) -> tuple[Scene, Scene]:
    """Draw a clip, and the same frames in the opposite order.

    What slows down shows the way of time by its motion only: of both clips the first frame is equally likely, and so is
    the way it moves. What grows shows it by single frames too.

    Labels: reversed, "forward" or "reversed"; arrow, what shows it; reversed_slowing, reversed_growing, the first for
    those clips alone.
    """
    arrow = str(rng.choice(ARROWS))
    (look,) = draw_looks(rng, 1)
    time = np.linspace(0, 1, config.num_frames)
    while True:
        radius = np.full(len(time), draw_radius(rng, SIZES["small"], config))
        way = DIRECTIONS[str(rng.choice(list(DIRECTIONS)))]
        path = np.zeros((len(time), 2))
        if arrow == "growing":
            radius = radius * (1 + (rng.uniform(*GROWTH) - 1) * time)
        else:
            eased = (1 - np.exp(-DECAY * time)) / (1 - np.exp(-DECAY))
            path = np.outer(eased, way) * config.unit * rng.uniform(*TRAVEL)
        if (start := draw_start(rng, look["shape"], path, radius, config)) is not None:
            break
    scenes = []
    for name, step in (("forward", 1), ("reversed", -1)):
        position = (start + path)[::step]
        tasks = {"reversed": name, "arrow": arrow, f"reversed_{arrow}": name}
        if arrow == "growing":
            motion, does = ("grow", "grows") if step == 1 else ("shrink", "shrinks")
        else:
            motion = name_direction(position[-1] - position[0])
            does = f"moves {motion.replace('-', ' and ')} and {'slows down' if step == 1 else 'speeds up'}"
        thing = make_object(look, motion, position, radius[::step], config)
        scenes.append(
            Scene(objects=(thing,), caption=finish(f"@ {look['colour']} {look['shape']} {does}"), tasks=tasks)
        )
    return tuple(scenes)
