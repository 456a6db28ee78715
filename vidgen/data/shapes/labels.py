"""The words of the shape world, its settings, and the exact labels of a clip."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, UInt8

from vidgen.bounds import Choice, Frames, Length, Range, Seed, check_fields

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

# RGB; hues at least 25 degrees apart and every chroma (max - min) above 130, far from any background.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (226, 30, 38),
    "orange": (247, 134, 16),
    "yellow": (244, 228, 34),
    "green": (34, 172, 60),
    "cyan": (24, 208, 222),
    "blue": (38, 74, 232),
    "purple": (134, 44, 204),
    "pink": (250, 98, 186),
}

# Radius as a fraction of the shorter side of the frame: 8, 10.2 and 12.8 px of 64.
SIZES: dict[str, float] = {"small": 0.125, "medium": 0.16, "large": 0.2}

# Unit vectors in pixels: x to the right, y down.
DIAGONAL = 0.5**0.5
DIRECTIONS: dict[str, tuple[float, float]] = {
    "right": (1.0, 0.0),
    "left": (-1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "up-right": (DIAGONAL, -DIAGONAL),
    "up-left": (-DIAGONAL, -DIAGONAL),
    "down-right": (DIAGONAL, DIAGONAL),
    "down-left": (-DIAGONAL, DIAGONAL),
}
MOTIONS = ("still", *DIRECTIONS, "circle", "bounce", "grow", "shrink", "rotate")

# What a prompt says of an object: its colour, shape, size and motion.
WORDS = {"colour": tuple(COLOURS), "shape": SHAPES, "size": tuple(SIZES), "motion": MOTIONS}

BACKGROUNDS = ("plain", "gradient", "texture")
TONES: dict[str, tuple[float, float]] = {"dark": (24.0, 72.0), "grey": (92.0, 148.0), "light": (176.0, 232.0)}
SPLITS = ("train", "held_out")

ShapeSide = Annotated[int, Range(16, 2**16)]

# Rotating these shows nothing.
ROUND_SHAPES = frozenset({"circle", "ring"})


@dataclass(frozen=True, kw_only=True)
class ShapeWorldConfig:
    """What clips a `ShapeWorld` makes. Lengths inside a clip scale with `unit`.

    `split` picks one of two streams of random numbers that never meet: "train" or "held_out".
    Raises ValueError for values that no clip can be made from.
    """

    height: ShapeSide = 64
    width: ShapeSide = 64
    num_frames: Frames = 17
    fps: Annotated[int, Range(1, 1000)] = 8
    max_objects: Annotated[int, Range(1, 2)] = 1
    backgrounds: Annotated[tuple[Annotated[str, Choice(BACKGROUNDS)], ...], Length(1, 100)] = BACKGROUNDS
    seed: Seed = 0
    split: Annotated[str, Choice(SPLITS)] = "train"

    @property
    def unit(self) -> int:
        """The shorter side of the frame, in pixels, with which all lengths scale."""
        return min(self.height, self.width)

    def __post_init__(self) -> None:
        # A list is what YAML gives; a tuple keeps the config hashable.
        object.__setattr__(self, "backgrounds", tuple(self.backgrounds))
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class BackgroundLabels:
    """`kind` of BACKGROUNDS, `tone` of TONES; `seed` fixes the shade, the tint and the pattern."""

    kind: str
    tone: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens to object number `object` at `frame`: "starts moving", "bounces", "stops", ..."""

    frame: int
    object: int
    name: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectLabels:
    """One object. It acts in frames `start` to `stop - 1` and rests before and after.

    position: center (x, y) in pixels, pixel centers at half-integers; y points down.
    velocity: pixels per frame, towards the next frame (the last frame repeats the one before).
    radius: pixels. angle: radians, clockwise on the screen. wall: the side a bounce hits, else "".
    size: the word of SIZES; for "grow" and "shrink" the size it starts with.
    """

    shape: str
    colour: str
    size: str
    motion: str
    start: int
    stop: int
    position: Float[np.ndarray, "t 2"]
    velocity: Float[np.ndarray, "t 2"]
    radius: Float[np.ndarray, " t"]
    angle: Float[np.ndarray, " t"]
    wall: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, for JSON."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: v.tolist() if isinstance(v, np.ndarray) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ObjectLabels:
        """Return the inverse of `to_dict`."""
        arrays = ("position", "velocity", "radius", "angle")
        return cls(**{k: np.asarray(v, dtype=np.float64) if k in arrays else v for k, v in data.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipLabels:
    """Everything in a clip: objects (one or two), background, events in order of time.

    `ordered` says that the objects act one after the other, in the order of `objects`.
    """

    objects: tuple[ObjectLabels, ...]
    background: BackgroundLabels
    events: tuple[Event, ...] = ()
    ordered: bool = False

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return len(self.objects[0].radius)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, for JSON."""
        return {
            "objects": [thing.to_dict() for thing in self.objects],
            "background": dict(vars(self.background)),
            "events": [dict(vars(event)) for event in self.events],
            "ordered": self.ordered,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClipLabels:
        """Return the inverse of `to_dict`."""
        return cls(
            objects=tuple(ObjectLabels.from_dict(thing) for thing in data["objects"]),
            background=BackgroundLabels(**data["background"]),
            events=tuple(Event(**event) for event in data["events"]),
            ordered=data["ordered"],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeClip:
    """A rendered clip: RGB frames, a true caption, and the labels both came from."""

    video: UInt8[np.ndarray, "t h w 3"]
    caption: str
    labels: ClipLabels
