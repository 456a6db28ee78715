"""Captions with one thing changed: true of another clip, false of the clip they are made from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vidgen.data.shapes.captions import describe
from vidgen.data.shapes.labels import COLOURS, MOTIONS, ROUND_SHAPES, SHAPES, ClipLabels, ObjectLabels
from vidgen.data.shapes.motions import WALLS
from vidgen.data.shapes.truth import is_true

WORD_CHANGES = ("colour", "shape", "motion")
PAIR_CHANGES = ("swapped colours", "swapped shapes", "swapped motions")
TRIES = 20


def with_motion(thing: ObjectLabels, motion: str, rng: np.random.Generator) -> ObjectLabels:
    """Return what is said of an object that moves otherwise."""
    return replace(thing, motion=motion, wall=str(rng.choice(list(WALLS))) if motion == "bounce" else "")


def is_possible(labels: ClipLabels) -> bool:
    """Return whether the world can show this: nobody sees that a circle or a ring rotates."""
    return not any(thing.motion == "rotate" and thing.shape in ROUND_SHAPES for thing in labels.objects)


def change_word(labels: ClipLabels, kind: str, rng: np.random.Generator) -> ClipLabels:
    """Return labels of which one object has another colour, shape or motion."""
    number = int(rng.integers(len(labels.objects)))
    things = list(labels.objects)
    thing = things[number]
    words = {"colour": tuple(COLOURS), "shape": SHAPES, "motion": MOTIONS}[kind]
    word = str(rng.choice([other for other in words if other != getattr(thing, kind)]))
    things[number] = with_motion(thing, word, rng) if kind == "motion" else replace(thing, **{kind: word})
    return replace(labels, objects=tuple(things))


def change_pair(labels: ClipLabels, kind: str) -> ClipLabels:
    """Return labels whose two objects have exchanged colours, shapes or motions: the same words in another order; or
    whose events come in the other order."""
    first, second = labels.objects
    names = {"swapped colours": ("colour",), "swapped shapes": ("shape",), "swapped motions": ("motion", "wall")}
    if kind not in names:
        return replace(labels, objects=(second, first))
    swapped = [
        replace(one, **{name: getattr(other, name) for name in names[kind]})
        for one, other in ((first, second), (second, first))
    ]
    return replace(labels, objects=tuple(swapped))


def change_caption(labels: ClipLabels, rng: np.random.Generator) -> str:
    """Return a caption in the world's words that is not true of the clip, and differs from what is in one thing: a
    colour, a shape or a motion; of two objects that are exchanged; of two events the order.

    The wording is drawn too, so that no wording tells. Raises ValueError where no such caption can be drawn.
    """
    kinds = list(WORD_CHANGES)
    if len(labels.objects) == 2:
        kinds += PAIR_CHANGES + ("order",) * labels.ordered
    for _ in range(TRIES):
        kind = str(rng.choice(kinds))
        changed = change_word(labels, kind, rng) if kind in WORD_CHANGES else change_pair(labels, kind)
        if is_possible(changed):
            caption = describe(changed, rng)
            if not is_true(caption, labels):
                return caption
    raise ValueError("no caption with one thing changed is false of this clip")
