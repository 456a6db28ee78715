"""Pictures of a clip's objects in other clips, and captions that leave unsaid what such a picture shows."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from vidgen.data.shapes.captions import describe
from vidgen.data.shapes.labels import MOTIONS, ROUND_SHAPES, ClipLabels, ObjectLabels, ShapeClip, ShapeWorldConfig
from vidgen.data.shapes.motions import Track, draw_track
from vidgen.data.shapes.render import render
from vidgen.data.shapes.world import GAP, PLACEMENT_TRIES, are_apart, draw_background, label_track

PORTRAIT_FRAMES = 9  # of the clip that a picture is a frame of: enough for every motion
RESIZING = ("grow", "shrink")
# What an object is called where its looks are left to a picture. The first misleads a denoiser that has read the
# others' words in captions of shapes the least: its loss without a picture is the lowest.
NAMES = ("something", "a thing", "a shape", "an object")


def draw_moment(rng: np.random.Generator, thing: ObjectLabels, config: ShapeWorldConfig) -> Track:
    """Draw one frame of another clip of this object: of another motion that leaves its size as its word says."""
    others = [m for m in MOTIONS if m not in (thing.motion, *RESIZING)]
    others = [m for m in others if m != "rotate" or thing.shape not in ROUND_SHAPES]
    motion = str(rng.choice(others))
    moment = int(rng.integers(config.num_frames))
    words = {"shape": thing.shape, "size": thing.size, "motion": motion, "start": 0, "stop": config.num_frames}
    track = draw_track(rng, **words, config=config)
    frame = slice(moment, moment + 1)
    return Track(position=track.position[frame], radius=track.radius[frame], angle=track.angle[frame])


def portray(labels: ClipLabels, rng: np.random.Generator, config: ShapeWorldConfig) -> ShapeClip:
    """Render a picture, as a clip of one frame, of the objects of `labels`: the same colours, shapes and sizes,
    elsewhere in the frame, over another background; turned, where that frame shows them turning.

    Of `config` the frame's size and the backgrounds count.
    """
    config = replace(config, num_frames=PORTRAIT_FRAMES)
    # One frame shows no motion.
    words = [{"shape": o.shape, "colour": o.colour, "size": o.size, "motion": "still"} for o in labels.objects]
    background = draw_background(rng, config)
    gap = GAP * config.unit
    for _ in range(100 * PLACEMENT_TRIES):
        tracks = [draw_moment(rng, thing, config) for thing in labels.objects]
        if are_apart(tracks, words, gap):
            break
    else:
        raise ValueError(f"{len(tracks)} objects do not fit beside each other in {config.height}x{config.width}")
    objects = tuple(label_track(w, track, (0, 1)) for w, track in zip(words, tracks, strict=True))
    portrait = ClipLabels(objects=objects, background=background)
    return ShapeClip(video=render(portrait, config), caption=describe(portrait), labels=portrait)


def describe_unnamed(labels: ClipLabels, wording: int | np.random.Generator = 0) -> str:
    """Return a true caption that says what happens, and of no object its colour, shape and size: "something moves
    right".

    wording: as for `describe`; a generator also draws the name, one of NAMES.
    """
    objects = [replace(thing, colour="", shape="thing", size="") for thing in labels.objects]
    text = describe(replace(labels, objects=tuple(objects)), wording)
    name = str(wording.choice(NAMES)) if isinstance(wording, np.random.Generator) else NAMES[0]
    return re.sub(r"\b(a|the) thing\b", name, text)
