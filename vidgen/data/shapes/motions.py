"""Tracks: where an object is, how large and how turned, in each frame of a motion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vidgen.data.shapes.labels import DIRECTIONS, SIZES, ShapeWorldConfig
from vidgen.data.shapes.outlines import extents

# All lengths are fractions of the shorter side of the frame.
TRAVEL = (0.3, 0.48)
ORBIT_RADIUS = (0.14, 0.19)
BOUNCE_TRAVEL = (0.26, 0.4)
BOUNCE_TIME = (0.42, 0.58)
GROWTH = (1.85, 2.1)
TURN = (np.radians(115), np.radians(170))
GROW_FROM = SIZES["small"]
SIZE_JITTER = 0.04
MARGIN = 1 / 64
# What continues need not go as far as what is free to choose where it starts.
CONTINUED_GROWTH = (1.5, GROWTH[1])
CONTINUED_BOUNCE = (0.2, 0.45)
CONTINUED_RADIUS = (0.95 * SIZES["small"], 1.05 * GROWTH[1] * SIZES["small"])
CONTINUATION_TRIES = 12
WALLS = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "top": (0.0, -1.0), "bottom": (0.0, 1.0)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """Centre (x, y) in pixels, radius in pixels and angle in radians per frame; the wall and frame of a bounce."""

    position: Float[np.ndarray, "t 2"]
    radius: Float[np.ndarray, " t"]
    angle: Float[np.ndarray, " t"]
    wall: str = ""
    bounce_frame: int = -1

    @property
    def velocity(self) -> Float[np.ndarray, "t 2"]:
        """Pixels per frame towards the next frame; the last one repeats the one before."""
        if len(self.position) == 1:
            return np.zeros((1, 2))
        steps = np.diff(self.position, axis=0)
        return np.concatenate([steps, steps[-1:]])


def progress(num_frames: int, start: int, stop: int) -> Float[np.ndarray, " t"]:
    """Return 0 up to frame `start`, 1 from frame `stop - 1` on, linear between."""
    steps = max(stop - 1 - start, 1)
    return np.clip((np.arange(num_frames) - start) / steps, 0.0, 1.0)


def _path(rng: np.random.Generator, motion: str, u: np.ndarray, unit: int) -> tuple[np.ndarray, str, float]:
    """Return the displacement (t, 2) in pixels from where the object starts; the wall and the time u of a bounce."""
    still = np.zeros((len(u), 2))
    if motion in DIRECTIONS:
        return np.outer(u, DIRECTIONS[motion]) * unit * rng.uniform(*TRAVEL), "", -1.0
    if motion == "circle":
        turns = rng.choice([-1.0, 1.0]) * 2 * np.pi * u + rng.uniform(0, 2 * np.pi)
        circle = np.stack([np.cos(turns), np.sin(turns)], axis=-1) * unit * rng.uniform(*ORBIT_RADIUS)
        return circle - circle[0], "", -1.0
    if motion == "bounce":
        wall = str(rng.choice(list(WALLS)))
        hit = rng.uniform(*BOUNCE_TIME)
        there_and_back = 1 - np.abs(u - hit) / hit  # 0 at the start, 1 at the wall, constant speed throughout
        return np.outer(there_and_back, WALLS[wall]) * unit * rng.uniform(*BOUNCE_TRAVEL), wall, hit
    return still, "", -1.0


def find_room(
    path: Float[np.ndarray, "t 2"],
    low: Float[np.ndarray, "t 2"],
    high: Float[np.ndarray, "t 2"],
    config: ShapeWorldConfig,
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Return the least and greatest first center (x, y) for which an object that reaches `low` and `high` pixels from
    its center stays inside the frame all along `path`; there is none where the former exceeds the latter."""
    margin = MARGIN * config.unit
    frame = np.array([config.width, config.height], dtype=np.float64)
    return (low - path).max(axis=0) + margin, (frame - high - path).min(axis=0) - margin


def draw_track(
    rng: np.random.Generator,
    *,
    shape: str,
    size: str,
    motion: str,
    start: int,
    stop: int,
    config: ShapeWorldConfig,
) -> Track:
    """Draw a random track of `motion` that acts from frame `start` to `stop - 1` and stays wholly inside the frame.

    Args:
        rng: the source of randomness.
        shape: the shape, one of SHAPES.
        size: the word for its size, one of SIZES.
        motion: one of MOTIONS.
        start: the first frame of the motion.
        stop: the frame after its last.
        config: the size and length of the clip.
    """
    unit = config.unit
    u = progress(config.num_frames, start, stop)
    while True:
        jitter = rng.uniform(1 - SIZE_JITTER, 1 + SIZE_JITTER)
        radius = np.full(len(u), SIZES[size] * unit * jitter)
        if motion in ("grow", "shrink"):
            growth = rng.uniform(*GROWTH) - 1
            radius = GROW_FROM * unit * jitter * (1 + growth * (u if motion == "grow" else 1 - u))
        angle = np.zeros(len(u))
        if motion == "rotate":
            angle = u * rng.choice([-1.0, 1.0]) * rng.uniform(*TURN)
        path, wall, hit = _path(rng, motion, u, unit)
        low, high = extents(shape, radius, angle)
        first_low, first_high = find_room(path, low, high, config)
        if np.all(first_low <= first_high):
            break  # otherwise this path is too long for this frame: draw another
    first = rng.uniform(first_low, first_high)
    if wall:
        axis = 0 if wall in ("left", "right") else 1
        # Against the wall, less half the margin, so that it is seen to touch without being cut.
        first[axis] = first_low[axis] if wall in ("left", "top") else first_high[axis]
        first[axis] += 0.5 * MARGIN * unit * WALLS[wall][axis]
    return Track(
        position=first + path,
        radius=radius,
        angle=angle,
        wall=wall,
        bounce_frame=start + round(hit * max(stop - 1 - start, 1)) if wall else -1,
    )


def _to_wall(
    path: np.ndarray, wall: str, position: np.ndarray, reach: tuple[np.ndarray, np.ndarray], config: ShapeWorldConfig
) -> np.ndarray | None:
    """Return the path to a wall and back, scaled to touch it from `position`; None where it is too near or too far."""
    axis, low = (0 if wall in ("left", "right") else 1), wall in ("left", "top")
    place = position[axis] if low else (config.width, config.height)[axis] - position[axis]
    travel = (place - reach[0 if low else 1][0, axis]) / config.unit - 0.5 * MARGIN
    if not CONTINUED_BOUNCE[0] <= travel <= CONTINUED_BOUNCE[1]:
        return None
    return path * travel * config.unit / np.abs(path).max()


def continue_track(
    rng: np.random.Generator, last: Track, *, shape: str, motion: str, config: ShapeWorldConfig
) -> Track | None:
    """Draw a track of `motion` that begins with the one frame of `last` and stays wholly inside the frame of the clip.

    None where there is no room: for an object at the right border that is to move right. To rest there always is.

    Args:
        rng: the source of randomness.
        last: where the object is, how large and how turned.
        shape: the shape, one of SHAPES.
        motion: one of MOTIONS.
        config: the size and length of the clip.
    """
    u = progress(config.num_frames, 0, config.num_frames)
    at, slack = last.position[0], MARGIN * config.unit
    for _ in range(CONTINUATION_TRIES):
        factor = rng.uniform(*CONTINUED_GROWTH) ** {"grow": 1, "shrink": -1}.get(motion, 0)
        radius = last.radius[0] * (1 + (factor - 1) * u)
        turn = rng.choice([-1.0, 1.0]) * rng.uniform(*TURN) if motion == "rotate" else 0.0
        angle = last.angle[0] + turn * u
        path: np.ndarray | None
        path, wall, hit = _path(rng, motion, u, config.unit)
        low, high = extents(shape, radius, angle)
        if wall:
            path = _to_wall(path, wall, at, (low, high), config)
        if path is None:
            continue
        first_low, first_high = find_room(path, low, high, config)
        has_room = np.all(first_low - slack <= at) and np.all(at <= first_high + slack)
        is_sized = factor == 1 or CONTINUED_RADIUS[0] <= radius[-1] / config.unit <= CONTINUED_RADIUS[1]
        if motion == "still" or (has_room and is_sized):
            bounce_frame = round(hit * (config.num_frames - 1)) if wall else -1
            return Track(position=at + path, radius=radius, angle=angle, wall=wall, bounce_frame=bounce_frame)
    return None
