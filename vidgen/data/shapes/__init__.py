"""Endless captioned clips of moving shapes, with exact labels and a checker that scores a clip against its prompt."""

from vidgen.data.shapes.captions import describe
from vidgen.data.shapes.checker import CheckResult, Sighting, check, classify
from vidgen.data.shapes.labels import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    SIZES,
    WORDS,
    BackgroundLabels,
    ClipLabels,
    Event,
    ObjectLabels,
    ShapeClip,
    ShapeWorldConfig,
)
from vidgen.data.shapes.portraits import describe_unnamed, portray
from vidgen.data.shapes.render import render
from vidgen.data.shapes.stories import draw_next_scene, draw_story, locate_object, render_story
from vidgen.data.shapes.tasks import label_tasks
from vidgen.data.shapes.walks import WalkWorld
from vidgen.data.shapes.world import ShapeWorld

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "MOTIONS",
    "SHAPES",
    "SIZES",
    "BackgroundLabels",
    "CheckResult",
    "ClipLabels",
    "Event",
    "ObjectLabels",
    "ShapeClip",
    "ShapeWorld",
    "ShapeWorldConfig",
    "Sighting",
    "WORDS",
    "WalkWorld",
    "check",
    "classify",
    "describe",
    "describe_unnamed",
    "draw_next_scene",
    "draw_story",
    "label_tasks",
    "locate_object",
    "portray",
    "render",
    "render_story",
]
