"""Exact labels of clips of the shape world for probes, each under a name of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidgen.data.shapes.labels import DIRECTIONS, ClipLabels, ObjectLabels, ShapeWorldConfig


def label_tasks(labels: ClipLabels, config: ShapeWorldConfig) -> dict[str, Any]:
    """Return the labels of a clip by name: words, lists of words, and numbers; a label that a clip cannot have is
    absent.

    Of every clip: count; colours, shapes and motions, a list each; background and tone.
    Of one object: see `label_object`.
    Of two that act one after the other: order, "left first" or "right first" by where they start.
    """
    objects = labels.objects
    background = labels.background
    tasks: dict[str, Any] = {"count": len(objects)}
    for name in ("colour", "shape", "motion"):
        tasks[f"{name}s"] = sorted({getattr(thing, name) for thing in objects})
    tasks |= {"background": background.kind, "tone": background.tone}
    if len(objects) == 1:
        tasks |= label_object(objects[0], config)
    if labels.ordered:
        first, second = (thing.position[0, 0] for thing in objects)
        tasks["order"] = "left first" if first < second else "right first"
    return tasks


def label_object(thing: ObjectLabels, config: ShapeWorldConfig) -> dict[str, Any]:
    """Return the labels of an object: shape, colour, size and motion; position [x, y] of the center in the middle
    frame, as shares of width and height; velocity [x, y] and speed, the means while it acts, in shorter sides of the
    frame a second; direction of what goes straight; wall of what bounces."""
    acting = slice(thing.start, max(thing.stop - 1, thing.start + 1))
    velocity = thing.velocity[acting] * config.fps / config.unit
    position = thing.position[len(thing.position) // 2] / (config.width, config.height)
    values: dict[str, Any] = {name: getattr(thing, name) for name in ("shape", "colour", "size", "motion")}
    values |= {
        "position": position.tolist(),
        "velocity": velocity.mean(0).tolist(),
        "speed": float(np.linalg.norm(velocity, axis=1).mean()),
    }
    if thing.motion in DIRECTIONS:
        values["direction"] = thing.motion
    if thing.wall:
        values["wall"] = thing.wall
    return values
