"""Possible and impossible clips that show the same: what is seen in every frame is the same in both, only its order in
time is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from vidgen.data.shapes.labels import SHAPES, BackgroundLabels, ClipLabels, ObjectLabels, ShapeWorldConfig
from vidgen.data.shapes.outlines import extents
from vidgen.data.shapes.render import render, render_background
from vidgen.data.shapes.scenes.passage import LANE, Passage, draw_passage
from vidgen.data.shapes.scenes.scene import draw_looks, make_object, name_direction
from vidgen.data.shapes.world import clip_generator, draw_background

STREAM = 7  # of random numbers, above those of the scenes
BLOCK = 0.1  # half of the block that things do not pass through, of the shorter side
LEAST_FRAMES = 9  # in which what passes behind the screen is hidden for two frames
Clip = UInt8[np.ndarray, "t h w 3"]
Objects = tuple[ObjectLabels, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Quartet:
    """Two clips that can be and two that cannot, which break off at frame `cut` (Riochet et al. 2018, section 3).

    Frame by frame the impossible pair holds the same pictures as the possible pair: that of A up to the cut and of B
    from there on, and the other way round, or (where a thing passes through another) its parts in other pairs. So
    whatever is easier or harder about what is seen is on both sides of the comparison.
    """

    possible: tuple[Clip, Clip]
    impossible: tuple[Clip, Clip]
    cut: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """What the clips of a quartet share: the way past the screen, looks of three objects, the screen (none where the
    violation is in view), and the background."""

    passage: Passage
    looks: list[dict[str, str]]
    screen: Objects
    background: BackgroundLabels
    config: ShapeWorldConfig

    @property
    def time(self) -> np.ndarray:
        """Times of the frames, from 0 to 1."""
        return np.linspace(0, 1, self.config.num_frames)

    @property
    def cut(self) -> int:
        """The frame at which the clips of a pair break off."""
        return self.config.num_frames // 2

    def passing(self, look: dict[str, str], lane: float = 0.0) -> ObjectLabels:
        """Return an object that goes all the way, `lane` pixels from its middle."""
        path = self.passage.path(self.time, lane)
        return make_object(look, name_direction(self.passage.along), path, self.passage.radius, self.config)

    def show(self, objects: Sequence[ObjectLabels]) -> Clip:
        """Render a clip of these objects, or of the background alone."""
        if objects:
            return render(ClipLabels(objects=tuple(objects), background=self.background), self.config)
        still = render_background(self.background, self.config.height, self.config.width)
        return np.repeat(np.rint(still)[None].astype(np.uint8), self.config.num_frames, axis=0)


def vanish(stage: Stage) -> Quartet:
    """Make an object vanish, or come out of nothing."""
    return cross(stage, (stage.passing(stage.looks[0]),), ())


def teleport(stage: Stage) -> Quartet:
    """Make an object go on beside its lane, farther away than it gets in a frame."""
    lane = LANE * stage.config.unit
    before, after = (stage.passing(stage.looks[0], side * lane) for side in (-1, 1))
    return cross(stage, (before,), (after,))


def recolour(stage: Stage) -> Quartet:
    """Make an object go on in another colour."""
    return cross(stage, *((stage.passing(stage.looks[0] | {"colour": look["colour"]}),) for look in stage.looks[:2]))


def reshape(stage: Stage) -> Quartet:
    """Make an object go on in another shape."""
    return cross(stage, *((stage.passing(stage.looks[0] | {"shape": look["shape"]}),) for look in stage.looks[:2]))


def pass_through(stage: Stage) -> Quartet:
    """Make an object go on through a block in its way, or turn back where there is none."""
    passage = stage.passage
    goes = stage.passing(stage.looks[0])
    half = BLOCK * stage.config.unit
    block = passage.screen(stage.looks[2]["colour"], len(stage.time), stage.config, half)
    low, high = extents(goes.shape, goes.radius[:1], goes.angle[:1])
    ahead = float(np.where(passage.along > 0, high, low)[0] @ np.abs(passage.along))
    touching = (passage.reach - half - ahead) / (2 * passage.reach)  # the time at which it does
    back = passage.path(np.clip(np.minimum(stage.time, 2 * touching - stage.time), 0, 1))
    turns = make_object(stage.looks[0], goes.motion, back, passage.radius, stage.config)
    return Quartet(
        possible=(stage.show((block, turns)), stage.show((goes,))),
        impossible=(stage.show((block, goes)), stage.show((turns,))),
        cut=int(np.ceil(touching * (len(stage.time) - 1))),
    )


def nothing(stage: Stage) -> Quartet:
    """Return the same clip four times: the control."""
    thing = (stage.passing(stage.looks[0]),)
    return cross(stage, thing, thing)


VIOLATIONS: dict[str, Callable[[Stage], Quartet]] = {
    "vanishes": vanish,
    "teleports": teleport,
    "recolours": recolour,
    "reshapes": reshape,
    "passes through": pass_through,
    "nothing": nothing,
}


def cross(stage: Stage, one: Objects, other: Objects) -> Quartet:
    """Return the clips of `one` and of `other`, behind the screen if there is one, and the two that change between
    them."""
    a, b = (stage.show((*things, *stage.screen)) for things in (one, other))
    ab, ba = (np.concatenate([x[: stage.cut], y[stage.cut :]]) for x, y in ((a, b), (b, a)))
    return Quartet(possible=(a, b), impossible=(ab, ba), cut=stage.cut)


def draw_quartet(name: str, index: int, config: ShapeWorldConfig | None = None, *, in_view: bool = False) -> Quartet:
    """Draw quartet number `index` of a violation of `VIOLATIONS`, a pure function of its arguments.

    in_view: without the screen, in the open; otherwise what changes is hidden when it does. Raises ValueError for an
    unknown name or too few frames, IndexError for a negative index.
    """
    config = config or ShapeWorldConfig()
    if name not in VIOLATIONS:
        raise ValueError(f"violation {name!r} is unknown; choose one of {', '.join(VIOLATIONS)}")
    if config.num_frames < LEAST_FRAMES:
        raise ValueError(f"a violation needs {LEAST_FRAMES} frames, got {config.num_frames}")
    rng = clip_generator(config, index, STREAM)
    background = draw_background(rng, config)
    passage = draw_passage(rng, config)
    looks = draw_looks(rng, 3)
    shapes = rng.permutation(SHAPES)
    looks = [{**look, "shape": str(shape)} for look, shape in zip(looks, shapes, strict=False)]
    screen = () if in_view else (passage.screen(looks[2]["colour"], config.num_frames, config),)
    return VIOLATIONS[name](Stage(passage=passage, looks=looks, screen=screen, background=background, config=config))
