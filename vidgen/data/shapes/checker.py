"""Adherence of a clip to its labels: which colours, shapes and motions does it really show?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vidgen.data.shapes.labels import DIRECTIONS, ROUND_SHAPES, ClipLabels
from vidgen.data.shapes.matching import fit_shape
from vidgen.data.shapes.tracking import as_frames, find_objects

if TYPE_CHECKING:
    from torch import Tensor

# Lengths are fractions of the shorter side of the frame. The world moves things by 0.28 and more.
MIN_SPAN = 0.14
MIN_LEG = 0.1
MIN_STRAIGHTNESS = 0.8
MAX_FLATNESS = 0.2
MIN_ORBIT = 1.4 * np.pi
# In one step of a clip of several frames nothing may cover more of its way than this: that is a jump.
MAX_STEP = 0.45
MIN_JUDGED_STEPS = 5
# The world doubles or halves the radius.
MIN_GROWTH = 1.35
MAX_SIZE_CHANGE = 1.5
MIN_TURN = np.radians(50)
# The middles of two actions, as fractions of the clip: at least this far apart in order, at most that far together.
MIN_ORDER_GAP = 0.2
MAX_TOGETHER_GAP = 0.3


class Sighting(NamedTuple):
    """What one object is and does, in the words of the world; None where it is no known one."""

    colour: str
    shape: str | None
    motion: str | None


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """Whether a clip shows every colour, shape and motion of its labels; `all`: all three, and no other object.

    detail: "asked" and "seen" (lists of words), "agreement" (of each visible object with each shape), "in_order"
    (None unless order matters).
    """

    colour: bool
    shape: bool
    motion: bool
    all: bool
    detail: dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judgement:
    sighting: Sighting
    agreement: dict[str, float]
    middle: float | None  # of its action, as a fraction of the clip; None if it does nothing


def _legs(center: Float[np.ndarray, "t 2"]) -> tuple[float, float, np.ndarray, float]:
    """Measure motion along one line: the length of the way out and back, the unit vector of the line, and how wide it
    is across relative to its length."""
    around = center - center.mean(axis=0)
    _, spread, axes = np.linalg.svd(around, full_matrices=False)
    along = around @ axes[0]
    along = along - along[0]
    turn = int(np.argmax(np.abs(along)))
    flatness = float(spread[1] / max(spread[0], 1e-6)) if len(spread) > 1 else 0.0
    return float(abs(along[turn])), float(abs(along[-1] - along[turn])), axes[0], flatness


def _orbit(center: Float[np.ndarray, "t 2"]) -> float:
    """Return the angle in radians by which the object went around the middle of its track."""
    middle = (center.max(axis=0) + center.min(axis=0)) / 2
    around = center - middle
    return float(abs(np.diff(np.unwrap(np.arctan2(around[:, 1], around[:, 0]))).sum()))


def judge_travel(center: Float[np.ndarray, "t 2"]) -> str | None:
    """Return direction, "circle" or "bounce" of an object that does move, from its centers in units of the frame's
    side."""
    steps = np.linalg.norm(np.diff(center, axis=0), axis=-1)
    path = float(steps.sum())
    net = center[-1] - center[0]
    distance = float(np.linalg.norm(net))
    if len(steps) >= MIN_JUDGED_STEPS and steps.max() > MAX_STEP * path:
        return None
    out, back, axis, flatness = _legs(center)
    if distance >= max(MIN_SPAN, MIN_STRAIGHTNESS * path):
        cosines = {name: float(net @ np.array(unit)) for name, unit in DIRECTIONS.items()}
        return max(cosines, key=cosines.__getitem__)
    if flatness < MAX_FLATNESS:
        along_side = max(abs(axis)) > np.cos(np.pi / 8)
        there_and_back = min(out, back) >= MIN_LEG and (out + back) >= MIN_STRAIGHTNESS * path
        return "bounce" if along_side and there_and_back else None
    return "circle" if _orbit(center) >= MIN_ORBIT else None


def _motion_and_signal(
    center: np.ndarray, area: np.ndarray, angle: np.ndarray, shape: str | None
) -> tuple[str | None, np.ndarray]:
    """Return the motion, and how much of it happens between each frame and the next."""
    side = np.sqrt(area)
    edge = max(len(side) // 8, 1)  # means over some frames, against noise
    growth = float(side[-edge:].mean() / side[:edge].mean())
    steps = np.linalg.norm(np.diff(center, axis=0), axis=-1)
    span = float(np.linalg.norm(center - center[0], axis=-1).max())
    if span >= MIN_SPAN:
        steady = 1 / MAX_SIZE_CHANGE < growth < MAX_SIZE_CHANGE
        return (judge_travel(center) if steady else None), steps
    if not 1 / MIN_GROWTH < growth < MIN_GROWTH:
        return ("grow" if growth > 1 else "shrink"), np.abs(np.diff(side))
    if shape not in ROUND_SHAPES and abs(angle[-1] - angle[0]) >= MIN_TURN:
        return "rotate", np.abs(np.diff(angle))
    return "still", np.zeros(max(len(side) - 1, 1))


def _middle(signal: np.ndarray) -> float | None:
    """Return the mean time of an action, as a fraction of the clip."""
    if not signal.max() > 0:
        return None
    # Under a fifth of the strongest change is trembling, not action.
    signal = np.where(signal > 0.2 * signal.max(), signal, 0.0)
    return float((np.arange(len(signal)) + 0.5) @ signal / signal.sum() / len(signal))


def _judge(video: np.ndarray | Tensor) -> list[_Judgement]:
    frames = as_frames(video)
    unit = min(frames.shape[1:3])
    judged = []
    for thing in find_objects(frames):
        visible = thing.visible
        fit = fit_shape(thing.masks[visible], thing.area[visible], thing.center[visible])
        angle = np.interp(np.arange(len(visible)), np.flatnonzero(visible), fit.angle)
        motion, signal = _motion_and_signal(thing.center / unit, thing.area, angle, fit.shape)
        # What comes or goes within the clip does not move as its label says throughout.
        sighting = Sighting(thing.colour, fit.shape, motion if thing.is_lasting else None)
        judged.append(_Judgement(sighting=sighting, agreement=fit.agreement, middle=_middle(signal)))
    return judged


def classify(video: np.ndarray | Tensor) -> list[Sighting]:
    """Return the objects of a clip (at most three, of different colours), most prominent first; [] if there is none.

    video: uint8 (t, h, w, 3), or float in [-1, 1] as (3, t, h, w), (1, 3, t, h, w) or (t, h, w, 3), numpy or torch.
    Works on saturated objects over backgrounds near gray, and does not mind blur, noise or slight shifts of hue.
    Raises ValueError for an array of another kind.
    """
    return [thing.sighting for thing in _judge(video)]


def _pair(expected: list[Sighting], judged: list[_Judgement]) -> list[_Judgement | None]:
    """Return for each expected object the visible one of its colour, else the most prominent one that is left."""
    left = list(judged)
    pairs: list[_Judgement | None] = [None] * len(expected)
    if len(expected) == 1:
        return [left[0]] if left else pairs
    for i, sighting in enumerate(expected):
        pairs[i] = next((thing for thing in left if thing.sighting.colour == sighting.colour), None)
        if pairs[i] is not None:
            left.remove(pairs[i])
    return [thing if thing is not None or not left else left.pop(0) for thing in pairs]


def _in_order(middles: list[float | None], ordered: bool) -> bool:
    """Return whether actions came one after the other (ordered) or together; what rests fits with everything."""
    active = [middle for middle in middles if middle is not None]
    gaps = np.diff(active)
    if ordered:
        return len(active) == len(middles) and bool(np.all(gaps >= MIN_ORDER_GAP))
    return bool(np.all(np.abs(gaps) <= MAX_TOGETHER_GAP))


def check(video: np.ndarray | Tensor, labels: ClipLabels) -> CheckResult:
    """Score a clip, made for these labels by whatever means, by what can be measured in its pixels.

    Of the labels only the words count: colour, shape and motion of each object and whether they act in order; not
    where, how large or how fast. "bounce" asks for a way there and back along one side of the frame. `video` is as for
    `classify`; a clip without objects scores False.
    """
    expected = [Sighting(thing.colour, thing.shape, thing.motion) for thing in labels.objects]
    judged = _judge(video)
    pairs = _pair(expected, judged)
    answers = [thing.sighting if thing else Sighting("", None, None) for thing in pairs]
    right = [[bool(a[field] == b[field]) for a, b in zip(expected, answers, strict=True)] for field in range(3)]
    colour, shape, motion = (all(values) for values in right)
    in_order = None
    if len(expected) > 1:
        in_order = _in_order([thing.middle if thing else None for thing in pairs], labels.ordered)
        motion = motion and in_order
    return CheckResult(
        colour=colour,
        shape=shape,
        motion=motion,
        all=colour and shape and motion and len(judged) == len(expected),
        detail={
            "asked": [list(words) for words in expected],
            "seen": [list(thing.sighting) for thing in judged],
            "agreement": [thing.agreement for thing in judged],
            "in_order": in_order,
        },
    )
