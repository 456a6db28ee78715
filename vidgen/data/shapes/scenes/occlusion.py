"""An object goes behind a screen or in front of it, and stops there or comes out on the other side."""

from __future__ import annotations

import numpy as np

from vidgen.data.shapes.captions import finish
from vidgen.data.shapes.labels import ShapeWorldConfig
from vidgen.data.shapes.scenes.passage import HIDDEN, LANE, draw_passage, visible_share
from vidgen.data.shapes.scenes.scene import Scene, draw_looks, make_object, name_direction

STOP = (0.46, 0.54)  # of the way; everything is hidden there
WAIT = (0.0, 0.35)  # of the clip, before it starts


def draw_occlusion(rng: np.random.Generator, config: ShapeWorldConfig) -> tuple[Scene, ...]:
    """Draw four scenes: behind or in front, through or only to the middle; the first frame of all is the same.

    Labels: depth, "behind" or "in front"; hidden_for, in seconds; hidden_at, when it is first hidden, in seconds, of
    what is; and of what stops at the screen hidden_now, "hidden" or "visible" in the last frame.
    """
    passage = draw_passage(rng, config)
    wait = rng.uniform(*WAIT)
    time = np.maximum(np.linspace(0, 1, config.num_frames) - wait, 0) / (1 - wait)
    look, behind = draw_looks(rng, 2)
    lane = LANE * config.unit * rng.uniform(-1, 1)
    stop = rng.uniform(*STOP)
    screen = passage.screen(behind["colour"], len(time), config)
    direction = name_direction(passage.along)
    scenes = []
    for stops in (True, False):
        path = passage.path(np.minimum(time, stop if stops else 1.0), lane)
        thing = make_object(look, direction, path, passage.radius, config)
        for depth in ("behind", "in front"):
            objects = (thing, screen) if depth == "behind" else (screen, thing)
            hidden = np.full(len(time), False)
            if depth == "behind":
                hidden = visible_share(objects, 0, config) < HIDDEN
            tasks = {"depth": depth, "hidden_for": float(hidden.sum() / config.fps)}
            if hidden.any():
                tasks["hidden_at"] = float(hidden.argmax() / config.fps)
            if stops:
                tasks["hidden_now"] = "hidden" if hidden[-1] else "visible"
            where = f"{depth} of" if depth == "in front" else depth
            ends = "stops" if stops else "moves"
            does = f"{ends} {where} @ {behind['colour']} square"
            scenes.append(
                Scene(objects=objects, caption=finish(f"@ {look['colour']} {look['shape']} {does}"), tasks=tasks)
            )
    return tuple(scenes)
