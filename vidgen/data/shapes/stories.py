"""Stories: one object that does several things, one after the other, each from where the one before has left it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from vidgen.data.shapes.labels import MOTIONS, ROUND_SHAPES, SIZES, ClipLabels, ShapeWorldConfig
from vidgen.data.shapes.motions import Track, continue_track
from vidgen.data.shapes.outlines import unit_area
from vidgen.data.shapes.render import render
from vidgen.data.shapes.tracking import as_frames, find_objects
from vidgen.data.shapes.world import ShapeWorld, clip_generator, label_track

STORY_STREAM = 2  # of a clip's random generators; 0 draws labels and 1 wordings


def draw_next_scene(rng: np.random.Generator, scene: ClipLabels, config: ShapeWorldConfig) -> ClipLabels:
    """Draw what the object of a scene does next, in a clip of the config's length that begins with its last frame.

    Any motion may come for which there is room. Of the object no word says the size, which changes on the way.
    """
    thing = replace(scene.objects[0], size="")
    last = Track(position=thing.position[-1:], radius=thing.radius[-1:], angle=thing.angle[-1:])
    motions = [m for m in MOTIONS if m != "rotate" or thing.shape not in ROUND_SHAPES]
    for motion in (*rng.permutation(motions), "still"):
        track = continue_track(rng, last, shape=thing.shape, motion=str(motion), config=config)
        if track is not None:
            words = {"shape": thing.shape, "colour": thing.colour, "size": "", "motion": str(motion)}
            following = label_track(words, track, (0, config.num_frames))
            return ClipLabels(objects=(following,), background=scene.background)
    raise AssertionError("there is room to rest anywhere")


def locate_object(frame: UInt8[np.ndarray, "h w 3"], scene: ClipLabels, config: ShapeWorldConfig) -> ClipLabels:
    """Return a scene of one frame with the scene's object where a picture shows it, and as large; upright in the middle
    where it shows none.

    What a model has made of a scene goes on from there: `draw_next_scene` of it asks for nothing without room.
    """
    thing = scene.objects[0]
    seen = find_objects(as_frames(frame[None]))
    seen = [other for other in seen if other.colour == thing.colour] or seen
    center, radius = np.array([[config.width / 2, config.height / 2]]), np.array([SIZES["medium"] * config.unit])
    if seen:
        center, radius = seen[0].center, np.sqrt(seen[0].area / unit_area(thing.shape))
    words = {"shape": thing.shape, "colour": thing.colour, "size": "", "motion": "still"}
    still = label_track(words, Track(position=center, radius=radius, angle=np.zeros(1)), (0, 1))
    return ClipLabels(objects=(still,), background=scene.background)


def draw_story(config: ShapeWorldConfig, index: int, scenes: int) -> tuple[ClipLabels, ...]:
    """Return the labels of the scenes of story `index`, each of the config's length: the last frame of one is the first
    of the next, and the first scene is the world's clip of this index.

    Raises IndexError for a negative index.
    """
    rng = clip_generator(config, index, STORY_STREAM)
    opening = ShapeWorld(replace(config, max_objects=1)).sample_labels(index)
    story = [replace(opening, objects=(replace(opening.objects[0], size=""),))]
    while len(story) < scenes:
        story.append(draw_next_scene(rng, story[-1], config))
    return tuple(story)


def render_story(story: Sequence[ClipLabels], config: ShapeWorldConfig) -> UInt8[np.ndarray, "t h w 3"]:
    """Render the scenes of a story as one clip, in which the frames that two of them share are there once."""
    clips = [render(scene, config) for scene in story]
    return np.concatenate([clips[0], *[clip[1:] for clip in clips[1:]]])
