"""An endless world of captioned clips of moving shapes, every one a pure function of (seed, split, index)."""

from __future__ import annotations

import numpy as np

from vidgen.data.shapes.captions import describe
from vidgen.data.shapes.labels import (
    COLOURS,
    MOTIONS,
    ROUND_SHAPES,
    SHAPES,
    SIZES,
    SPLITS,
    TONES,
    BackgroundLabels,
    ClipLabels,
    Event,
    ObjectLabels,
    ShapeClip,
    ShapeWorldConfig,
)
from vidgen.data.shapes.motions import Track, draw_track
from vidgen.data.shapes.outlines import REACH
from vidgen.data.shapes.render import render

PAIR_SHARE = 0.5
ORDERED_SHARE = 0.4
# Fewer frames than this leave no room for one event after another, or to see a circle, a bounce or a rotation.
MIN_ORDERED_FRAMES = 12
MIN_WINDING_FRAMES = 8
PLACEMENT_TRIES = 40
GAP = 2 / 64  # of the shorter side, between two objects
_START = {"grow": "starts growing", "shrink": "starts shrinking", "rotate": "starts turning"}


def draw_words(rng: np.random.Generator, count: int, motions: tuple[str, ...]) -> list[dict[str, str]]:
    """Draw shape, colour, motion and size of `count` objects of different colours."""
    sizes = list(SIZES) if count == 1 else list(SIZES)[:2]  # two large ones leave no room to move
    colours = rng.permutation(list(COLOURS))[:count]
    words = []
    for colour in colours:
        motion = str(rng.choice(motions))
        # The motion is drawn first, so all motions are equally frequent although not every shape can rotate.
        shapes = [s for s in SHAPES if motion != "rotate" or s not in ROUND_SHAPES]
        size = {"grow": "small", "shrink": "large"}.get(motion, str(rng.choice(sizes)))
        words.append({"shape": str(rng.choice(shapes)), "colour": str(colour), "motion": motion, "size": size})
    return words


def are_apart(tracks: list[Track], words: list[dict[str, str]], gap: float) -> bool:
    """Return whether no two objects ever come closer than `gap` pixels."""
    for i, first in enumerate(tracks):
        for j, second in enumerate(tracks[:i]):
            distance = np.linalg.norm(first.position - second.position, axis=-1)
            reach = REACH[words[i]["shape"]] * first.radius + REACH[words[j]["shape"]] * second.radius
            if np.any(distance < reach + gap):
                return False
    return True


def _events(objects: tuple[ObjectLabels, ...], tracks: list[Track]) -> tuple[Event, ...]:
    events = []
    for number, (thing, track) in enumerate(zip(objects, tracks, strict=True)):
        if thing.motion == "still":
            continue
        start = _START.get(thing.motion, "starts moving")
        events.append(Event(frame=thing.start, object=number, name=start))
        if track.wall:
            events.append(Event(frame=track.bounce_frame, object=number, name="bounces"))
        if thing.stop < len(thing.radius):
            events.append(Event(frame=thing.stop - 1, object=number, name="stops"))
    return tuple(sorted(events, key=lambda event: event.frame))


def clip_generator(config: ShapeWorldConfig, index: int, stream: int) -> np.random.Generator:
    """Return the random generator of a clip: those of other splits, indices or purposes share nothing with it, by
    construction of SeedSequence.

    Raises IndexError for a negative index.
    """
    if index < 0:
        raise IndexError(f"clip index must not be negative, got {index}")
    key = (SPLITS.index(config.split), int(index), stream)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(config.seed, spawn_key=key)))


def draw_background(rng: np.random.Generator, config: ShapeWorldConfig) -> BackgroundLabels:
    """Draw the labels of a background."""
    return BackgroundLabels(
        kind=str(rng.choice(config.backgrounds)), tone=str(rng.choice(list(TONES))), seed=int(rng.integers(2**31))
    )


class ShapeWorld:
    """`world[index]` is the same clip every time, for any index >= 0; there is no last one (so no `len`).

    Raises IndexError for a negative index.
    """

    def __init__(self, config: ShapeWorldConfig | None = None):
        self.config = config or ShapeWorldConfig()

    def __getitem__(self, index: int) -> ShapeClip:
        caption, labels = self.sample_prompt(index)
        return ShapeClip(video=render(labels, self.config), caption=caption, labels=labels)

    def sample_prompt(self, index: int) -> tuple[str, ClipLabels]:
        """Return caption and labels of clip `index`, without rendering it."""
        labels = self.sample_labels(index)
        return describe(labels, self._generator(index, stream=1)), labels

    def sample_labels(self, index: int) -> ClipLabels:
        """Return labels of clip `index`, without rendering it."""
        rng = self._generator(index, stream=0)
        config = self.config
        count = 2 if config.max_objects == 2 and rng.random() < PAIR_SHARE else 1
        ordered = count == 2 and config.num_frames >= MIN_ORDERED_FRAMES and rng.random() < ORDERED_SHARE
        background = draw_background(rng, config)
        objects, tracks = self._draw_objects(rng, count, ordered)
        return ClipLabels(objects=objects, background=background, events=_events(objects, tracks), ordered=ordered)

    def _generator(self, index: int, stream: int) -> np.random.Generator:
        return clip_generator(self.config, index, stream)

    def _draw_objects(
        self, rng: np.random.Generator, count: int, ordered: bool
    ) -> tuple[tuple[ObjectLabels, ...], list[Track]]:
        frames = self.config.num_frames
        motions = MOTIONS if frames > 1 else ("still",)
        if 1 < frames < MIN_WINDING_FRAMES:
            motions = tuple(motion for motion in MOTIONS if motion not in ("circle", "bounce", "rotate"))
        spans = [(0, frames)] * count
        if ordered:
            motions = tuple(motion for motion in MOTIONS if motion != "still")
            spans = [(0, frames // 2 + 1), (frames // 2, frames)]
        gap = GAP * self.config.unit
        while True:
            words = draw_words(rng, count, motions)
            for _ in range(PLACEMENT_TRIES):
                tracks = [
                    draw_track(rng, shape=w["shape"], size=w["size"], motion=w["motion"], start=start, stop=stop,
                               config=self.config)
                    for w, (start, stop) in zip(words, spans, strict=True)
                ]  # fmt: skip
                if are_apart(tracks, words, gap):
                    return tuple(map(label_track, words, tracks, spans)), tracks


def label_track(words: dict[str, str], track: Track, span: tuple[int, int]) -> ObjectLabels:
    """Return an object of these words (shape, colour, size, motion) that acts from frame span[0] to span[1] - 1."""
    start, stop = span
    return ObjectLabels(
        **words,
        start=start,
        stop=stop,
        position=track.position,
        velocity=track.velocity,
        radius=track.radius,
        angle=track.angle,
        wall=track.wall,
    )
