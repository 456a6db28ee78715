"""Pairs of clips and captions in which each caption is true of its own clip only, and that differ in one thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import UInt8

from vidgen.data.shapes.captions import describe
from vidgen.data.shapes.labels import (
    DIRECTIONS,
    ROUND_SHAPES,
    SHAPES,
    SIZES,
    BackgroundLabels,
    ClipLabels,
    ObjectLabels,
    ShapeWorldConfig,
)
from vidgen.data.shapes.motions import Track, draw_track
from vidgen.data.shapes.outlines import extents
from vidgen.data.shapes.render import render
from vidgen.data.shapes.scenes.order import draw_order
from vidgen.data.shapes.scenes.scene import draw_looks
from vidgen.data.shapes.world import (
    GAP,
    MIN_ORDERED_FRAMES,
    MIN_WINDING_FRAMES,
    PLACEMENT_TRIES,
    are_apart,
    clip_generator,
    draw_background,
    label_track,
)

STREAM = 8  # of random numbers, above those of scenes and violations
WORDINGS = 48  # so many of `describe` are told apart
# What is seen of these when a clip runs backward.
OPPOSITES = {
    "right": "left",
    "up": "down",
    "up-right": "down-left",
    "up-left": "down-right",
    "left": "right",
    "down": "up",
    "down-left": "up-right",
    "down-right": "up-left",
    "grow": "shrink",
    "shrink": "grow",
}
RESIZING = ("grow", "shrink")
# Without "bounce", which ends at a wall that another shape would not touch, and without what changes sizes, which
# leaves little room beside it.
EXCHANGEABLE = ("still", *DIRECTIONS, "circle", "rotate")
Labels = tuple[ClipLabels, ClipLabels]


@dataclass(frozen=True, kw_only=True, eq=False)
class Counterfactual:
    """Two clips, the caption of each, and their labels: a caption is false of the other clip."""

    videos: tuple[UInt8[np.ndarray, "t h w 3"], UInt8[np.ndarray, "t h w 3"]]
    captions: tuple[str, str]
    labels: Labels


@dataclass(frozen=True, kw_only=True)
class CounterfactualKind:
    """draw(rng, config, background): the labels of both clips.

    same_words: both captions are the same words in another order, but for "a" and "an": alike to a bag of words.
    same_frames: both clips are the same frames in another order: alike to a bag of frames.
    """

    draw: Callable[[np.random.Generator, ShapeWorldConfig, BackgroundLabels], Labels]
    same_words: bool
    same_frames: bool
    least_frames: int = 2


class CounterfactualWorld:
    """`CounterfactualWorld("direction")[index]` is the same pair every time, for any index >= 0 (after Winoground,
    Thrush et al. 2022, and Vinoground, Zhang et al. 2024, whose pairs share their words); see `COUNTERFACTUALS` for
    the kinds.

    Raises ValueError for an unknown kind, or fewer frames than it can be told from; IndexError for a negative index.
    """

    def __init__(self, kind: str, config: ShapeWorldConfig | None = None):
        if kind not in COUNTERFACTUALS:
            raise ValueError(f"counterfactual {kind!r} is unknown; choose one of {', '.join(COUNTERFACTUALS)}")
        self.config = config or ShapeWorldConfig()
        self.kind = COUNTERFACTUALS[kind]
        self._number = list(COUNTERFACTUALS).index(kind)
        if self.config.num_frames < self.kind.least_frames:
            raise ValueError(
                f"counterfactual {kind!r} needs {self.kind.least_frames} frames, got {self.config.num_frames}"
            )

    def __getitem__(self, index: int) -> Counterfactual:
        captions, labels = self.sample_prompts(index)
        videos = (render(labels[0], self.config), render(labels[1], self.config))
        return Counterfactual(videos=videos, captions=captions, labels=labels)

    def sample_prompts(self, index: int) -> tuple[tuple[str, str], Labels]:
        """Return captions and labels of pair `index`, without rendering it."""
        if index < 0:
            raise IndexError(f"pair index must not be negative, got {index}")
        rng = clip_generator(self.config, index * len(COUNTERFACTUALS) + self._number, STREAM)
        background = draw_background(rng, self.config)
        labels = self.kind.draw(rng, self.config, background)
        # Captions of one and of two objects have wordings of their own: the shortest is the only one that they share.
        alike = len(labels[0].objects) == len(labels[1].objects)
        wording = int(rng.integers(WORDINGS)) if alike else 0
        return (describe(labels[0], wording), describe(labels[1], wording)), labels


def draw_event_order(rng: np.random.Generator, config: ShapeWorldConfig, background: BackgroundLabels) -> Labels:
    """Draw two objects that act one after the other: the first of one clip is the second of the other."""
    scenes = draw_order(rng, config)
    clips = [
        ClipLabels(objects=scene.objects, background=background, events=scene.events, ordered=True) for scene in scenes
    ]
    return clips[0], clips[1]


def draw_direction(rng: np.random.Generator, config: ShapeWorldConfig, background: BackgroundLabels) -> Labels:
    """Draw two objects that move in opposite directions, and the clip run backward, in which they change roles."""
    motion = str(rng.choice(list(DIRECTIONS)))
    return _run_both_ways(rng, config, background, (motion, OPPOSITES[motion]))


def draw_growth(rng: np.random.Generator, config: ShapeWorldConfig, background: BackgroundLabels) -> Labels:
    """Draw an object that grows while another shrinks, and the clip run backward."""
    motion = str(rng.choice(RESIZING))
    return _run_both_ways(rng, config, background, (motion, OPPOSITES[motion]))


def draw_reversal(rng: np.random.Generator, config: ShapeWorldConfig, background: BackgroundLabels) -> Labels:
    """Draw one object whose motion is another when the clip runs backward."""
    return _run_both_ways(rng, config, background, (str(rng.choice(list(OPPOSITES))),))


def draw_binding(rng: np.random.Generator, config: ShapeWorldConfig, background: BackgroundLabels) -> Labels:
    """Draw two objects that act alike or not, and the same clip with their colours exchanged."""
    things, _ = _draw_things(rng, config, _draw_motions(rng, config, 2))
    other = replace(things[0], colour=things[1].colour), replace(things[1], colour=things[0].colour)
    return ClipLabels(objects=things, background=background), ClipLabels(objects=other, background=background)


def draw_agent(rng: np.random.Generator, config: ShapeWorldConfig, background: BackgroundLabels) -> Labels:
    """Draw two objects of one size with different motions, and the clip in which each is on the other's track."""
    first, second = (str(motion) for motion in rng.permutation(_possible(EXCHANGEABLE, config))[:2])
    # Both have to be seen to rotate, if one is, as the other does in the other clip.
    shapes = tuple(s for s in SHAPES if "rotate" not in (first, second) or s not in ROUND_SHAPES)
    while True:
        things, tracks = _draw_things(rng, config, (first, second), shapes, one_size=True)
        moved = [replace(track, radius=thing.radius) for track, thing in zip(reversed(tracks), things, strict=True)]
        words = [
            {"shape": thing.shape, "colour": thing.colour, "size": thing.size, "motion": motion}
            for thing, motion in zip(things, (second, first), strict=True)
        ]
        inside = all(_is_inside(w["shape"], track, config) for w, track in zip(words, moved, strict=True))
        if inside and are_apart(moved, words, GAP * config.unit):
            other = _label(words, moved, config)
            return ClipLabels(objects=things, background=background), ClipLabels(objects=other, background=background)


def draw_count(rng: np.random.Generator, config: ShapeWorldConfig, background: BackgroundLabels) -> Labels:
    """Draw two objects, and the clip without the second."""
    things, _ = _draw_things(rng, config, _draw_motions(rng, config, 2))
    return ClipLabels(objects=things[:1], background=background), ClipLabels(objects=things, background=background)


def _possible(motions: Sequence[str], config: ShapeWorldConfig) -> tuple[str, ...]:
    """Return the motions that so few frames can show."""
    winding = ("circle", "rotate") if config.num_frames < MIN_WINDING_FRAMES else ()
    return tuple(motion for motion in motions if motion not in winding)


def _draw_motions(rng: np.random.Generator, config: ShapeWorldConfig, count: int) -> tuple[str, ...]:
    return tuple(str(motion) for motion in rng.choice(_possible(EXCHANGEABLE, config), count))


def _draw_things(
    rng: np.random.Generator,
    config: ShapeWorldConfig,
    motions: Sequence[str],
    shapes: tuple[str, ...] = SHAPES,
    one_size: bool = False,
) -> tuple[tuple[ObjectLabels, ...], list[Track]]:
    """Draw objects of different colours and shapes with these motions, never close to each other."""
    sizes = list(SIZES)[: 2 if len(motions) > 1 else 3]  # two large ones leave no room to move
    while True:
        looks = draw_looks(rng, len(motions), shapes)
        turning = any(m == "rotate" and look["shape"] in ROUND_SHAPES for m, look in zip(motions, looks, strict=True))
        if turning or len({look["shape"] for look in looks}) < len(looks):
            continue
        size = str(rng.choice(sizes))
        words = []
        for look, motion in zip(looks, motions, strict=True):
            own = {"grow": "small", "shrink": "large"}.get(motion, size if one_size else str(rng.choice(sizes)))
            words.append({**look, "motion": motion, "size": own})
        for _ in range(PLACEMENT_TRIES):
            tracks = [
                draw_track(rng, shape=w["shape"], size=w["size"], motion=w["motion"], start=0, stop=config.num_frames,
                           config=config)
                for w in words
            ]  # fmt: skip
            if are_apart(tracks, words, GAP * config.unit):
                return _label(words, tracks, config), tracks


def _label(words: list[dict[str, str]], tracks: list[Track], config: ShapeWorldConfig) -> tuple[ObjectLabels, ...]:
    span = (0, config.num_frames)
    return tuple(label_track(w, track, span) for w, track in zip(words, tracks, strict=True))


def _run_both_ways(
    rng: np.random.Generator, config: ShapeWorldConfig, background: BackgroundLabels, motions: Sequence[str]
) -> Labels:
    """Return labels of a clip and of its frames in reverse, in which every motion is the opposite."""
    things, tracks = _draw_things(rng, config, motions)
    words, backward = [], []
    for thing, track in zip(things, tracks, strict=True):
        motion = OPPOSITES[thing.motion]
        size = {"grow": "small", "shrink": "large"}.get(motion, thing.size)
        words.append({"shape": thing.shape, "colour": thing.colour, "size": size, "motion": motion})
        backward.append(Track(position=track.position[::-1], radius=track.radius[::-1], angle=track.angle[::-1]))
    other = _label(words, backward, config)
    return ClipLabels(objects=things, background=background), ClipLabels(objects=other, background=background)


def _is_inside(shape: str, track: Track, config: ShapeWorldConfig) -> bool:
    low, high = extents(shape, track.radius, track.angle)
    frame = (config.width, config.height)
    return bool(np.all(track.position >= low) and np.all(track.position + high <= frame))


COUNTERFACTUALS: dict[str, CounterfactualKind] = {
    "order": CounterfactualKind(
        draw=draw_event_order, same_words=True, same_frames=False, least_frames=MIN_ORDERED_FRAMES
    ),
    "direction": CounterfactualKind(draw=draw_direction, same_words=True, same_frames=True),
    "growth": CounterfactualKind(draw=draw_growth, same_words=True, same_frames=True),
    "agent": CounterfactualKind(draw=draw_agent, same_words=True, same_frames=False),
    "binding": CounterfactualKind(draw=draw_binding, same_words=True, same_frames=False),
    "reversal": CounterfactualKind(draw=draw_reversal, same_words=False, same_frames=True),
    "count": CounterfactualKind(draw=draw_count, same_words=False, same_frames=False),
}
