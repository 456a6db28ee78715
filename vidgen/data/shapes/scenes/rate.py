"""Things of one known speed, seen at half, once and twice as many frames a second, and shown as if it were once."""

from __future__ import annotations

import numpy as np

from vidgen.data.shapes.captions import finish
from vidgen.data.shapes.labels import DIRECTIONS, SIZES, ShapeWorldConfig
from vidgen.data.shapes.motions import find_room
from vidgen.data.shapes.outlines import extents
from vidgen.data.shapes.scenes.scene import Scene, draw_looks, draw_radius, make_object

SPEED = 0.35  # of the shorter side, a second: everything in these clips has it, so that frames tell the rate
RATES = (0.5, 1.0, 2.0)  # of the config's


def draw_rate(rng: np.random.Generator, config: ShapeWorldConfig) -> tuple[Scene, ...]:
    """Draw one object, seen at each of the rates from the same place; it turns back at the sides of the frame.

    Labels: frame_rate, such as "4 fps".
    """
    (look,) = draw_looks(rng, 1)
    radius = draw_radius(rng, SIZES["small"], config)
    still = np.zeros((1, 2))
    low, high = find_room(still, *extents(look["shape"], np.array([radius]), np.zeros(1)), config)
    start = rng.uniform(low, high)
    way = np.array(DIRECTIONS[str(rng.choice(list(DIRECTIONS)))])
    scenes = []
    for share in RATES:
        rate = share * config.fps
        far = SPEED * config.unit * np.arange(config.num_frames) / rate
        position = turn_back(start + np.outer(far, way), low, high)
        rate_word = f"{rate:g} fps"
        caption = finish(f"@ {look['colour']} {look['shape']} moves and turns back at the sides, at {rate_word}")
        thing = make_object(look, "bounce", position, radius, config)
        scenes.append(Scene(objects=(thing,), caption=caption, tasks={"frame_rate": rate_word}))
    return tuple(scenes)


def turn_back(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return positions on a line, folded into the box from `low` to `high`."""
    size = high - low
    return low + size - np.abs((x - low) % (2 * size) - size)
