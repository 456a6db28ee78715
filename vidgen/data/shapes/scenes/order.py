"""Two objects act one after the other: which comes first is all that two clips of a group differ in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vidgen.data.shapes.captions import describe
from vidgen.data.shapes.labels import MOTIONS, BackgroundLabels, ClipLabels, Event, ShapeWorldConfig
from vidgen.data.shapes.motions import Track, draw_track
from vidgen.data.shapes.scenes.scene import Scene
from vidgen.data.shapes.world import GAP, PLACEMENT_TRIES, are_apart, draw_words, label_track

APART = 0.15  # of the shorter side: how much farther left one begins than the other
ANY = BackgroundLabels(kind="plain", tone="grey", seed=0)  # the wording that is used does not name it


def draw_order(rng: np.random.Generator, config: ShapeWorldConfig) -> tuple[Scene, Scene]:
    """Draw the same two objects and motions from the same places, one first and then the other first: the first frame
    of both clips is the same, and so is the last.

    Labels: order (see `label_tasks`), and first, the colour of the one that acts first.
    """
    frames = config.num_frames
    length = frames // 2 + 1
    spans = [(0, length), (frames - length, frames)]
    moving = tuple(motion for motion in MOTIONS if motion != "still")
    while True:
        words = draw_words(rng, 2, moving)
        for _ in range(PLACEMENT_TRIES):
            early = [
                draw_track(rng, shape=w["shape"], size=w["size"], motion=w["motion"], start=0, stop=length,
                           config=config)
                for w in words
            ]  # fmt: skip
            late = [delay(track, frames - length) for track in early]
            sides = [track.position[0, 0] for track in early]
            orders = ([early[0], late[1]], [late[0], early[1]])
            far_apart = abs(sides[0] - sides[1]) >= APART * config.unit
            if far_apart and all(are_apart(tracks, words, GAP * config.unit) for tracks in orders):
                return make_scene(words, early, late, spans, 0), make_scene(words, early, late, spans, 1)


def delay(track: Track, frames: int) -> Track:
    """Return the same track, resting for `frames` frames first; as many of its last, in which it rests, are cut off."""
    frame = np.maximum(np.arange(len(track.radius)) - frames, 0)
    bounce = track.bounce_frame + frames if track.wall else -1
    delayed = {name: getattr(track, name)[frame] for name in ("position", "radius", "angle")}
    return replace(track, bounce_frame=bounce, **delayed)


def make_scene(
    words: list[dict[str, str]], early: list[Track], late: list[Track], spans: list[tuple[int, int]], first: int
) -> Scene:
    """Return the scene in which object number `first` acts first."""
    second = 1 - first
    objects = (label_track(words[first], early[first], spans[0]), label_track(words[second], late[second], spans[1]))
    events = tuple(Event(frame=thing.start, object=number, name="acts") for number, thing in enumerate(objects))
    labels = ClipLabels(objects=objects, background=ANY, events=events, ordered=True)
    tasks = {"first": words[first]["colour"]}
    return Scene(objects=objects, caption=describe(labels), tasks=tasks, events=events, ordered=True)
