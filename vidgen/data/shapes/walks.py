"""A world of exact actions: one object that walks at random, where a clip is its first frame and a velocity a frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vidgen.data.shapes.labels import SIZES, ClipLabels, ShapeWorldConfig
from vidgen.data.shapes.motions import SIZE_JITTER, Track, find_room
from vidgen.data.shapes.outlines import extents
from vidgen.data.shapes.tracking import as_frames, find_objects
from vidgen.data.shapes.world import ShapeWorld, clip_generator, draw_background, draw_words, label_track

WALK = "walk"  # the motion's word: not one of MOTIONS, which the other worlds draw from
SWITCH = 1 / 6  # probability that a frame begins a new velocity
LARGEST_STEP = 0.05  # of the shorter side of the frame, along x and along y, from one frame to the next
ACTION_UNIT = LARGEST_STEP / 3**0.5  # the standard deviation of a velocity that no border has turned back
ACTION_CHANNELS = 2  # x and y
WALK_STREAM = 3  # of a clip's random generators; 0 draws labels, 1 wordings, 2 stories


def draw_walk(
    rng: np.random.Generator,
    first: Float[np.ndarray, " 2"],
    low: Float[np.ndarray, " 2"],
    high: Float[np.ndarray, " 2"],
    largest: float,
    frames: int,
) -> Float[np.ndarray, "t 2"]:
    """Draw the positions (x, y), in pixels, of a walk from `first` on that stays between `low` and `high`.

    Each frame keeps the velocity of the one before with probability 1 - `SWITCH`, if that does not lead out. Else it is
    drawn anew, uniformly within `largest` pixels on both axes among those that do not: a Markov chain of position and
    velocity.
    """
    positions = [first]
    velocity = np.full(2, np.inf)
    for _ in range(frames - 1):
        fresh = rng.random() < SWITCH
        while fresh or np.any(positions[-1] + velocity < low) or np.any(positions[-1] + velocity > high):
            velocity, fresh = rng.uniform(-largest, largest, 2), False
        positions.append(positions[-1] + velocity)
    return np.stack(positions)


class WalkWorld(ShapeWorld):
    """`world[index]` is the same clip every time, for any index >= 0, as those of `ShapeWorld`: one object on a walk.

    The first frame and `walk_actions` determine a clip, but for rounding to pixels. Raises IndexError for a negative
    index.
    """

    def sample_labels(self, index: int) -> ClipLabels:
        """Return labels of clip `index`, without rendering it."""
        config = self.config
        rng = clip_generator(config, index, WALK_STREAM)
        background = draw_background(rng, config)
        words = draw_words(rng, 1, (WALK,))[0]
        frames, unit = config.num_frames, config.unit
        radius = np.full(frames, SIZES[words["size"]] * unit * rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER))
        angle = np.zeros(frames)
        low, high = find_room(np.zeros((1, 2)), *extents(words["shape"], radius, angle), config)
        position = draw_walk(rng, rng.uniform(low, high), low, high, LARGEST_STEP * unit, frames)
        thing = label_track(words, Track(position=position, radius=radius, angle=angle), (0, frames))
        return ClipLabels(objects=(thing,), background=background)


def redraw_walk(rng: np.random.Generator, labels: ClipLabels, config: ShapeWorldConfig) -> ClipLabels:
    """Return the labels of another walk that begins with the same frame."""
    thing = labels.objects[0]
    low, high = find_room(np.zeros((1, 2)), *extents(thing.shape, thing.radius, thing.angle), config)
    position = draw_walk(rng, thing.position[0], low, high, LARGEST_STEP * config.unit, len(thing.position))
    track = Track(position=position, radius=thing.radius, angle=thing.angle)
    return replace(labels, objects=(replace(thing, position=position, velocity=track.velocity),))


def walk_actions(position: Float[np.ndarray, "t 2"], unit: int) -> Float[np.ndarray, "t 2"]:
    """Return the action that leads into each frame: the velocity, in `ACTION_UNIT` of `unit`, the frame's shorter side
    in pixels. Nothing leads into the first one, whose action is 0."""
    return np.diff(position, axis=0, prepend=position[:1]) / (ACTION_UNIT * unit)


def walk_positions(
    first: Float[np.ndarray, " 2"], actions: Float[np.ndarray, "t 2"], unit: int
) -> Float[np.ndarray, "t 2"]:
    """Return where actions lead an object that is at `first` in the first frame: the inverse of `walk_actions`."""
    return first + np.cumsum(actions, axis=0) * (ACTION_UNIT * unit)


def track_position(video: np.ndarray | Tensor) -> Float[np.ndarray, "t 2"] | None:
    """Return the center (x, y), in pixels, of the most prominent object in each frame of a clip, as pixels show it;
    None where they show none. Clips are as `as_frames` takes them."""
    objects = find_objects(as_frames(video), max_objects=1)
    return objects[0].center if objects else None
