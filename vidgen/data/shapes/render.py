"""From labels to pixels: anti-aliased shapes over quiet backgrounds."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from vidgen.data.shapes.labels import COLOURS, TONES, BackgroundLabels, ClipLabels, ObjectLabels, ShapeWorldConfig
from vidgen.data.shapes.outlines import REACH, coverage

# Tint of a background: offsets of the channels from gray. Chroma stays far below that of the palette.
TINT = 7.0
TEXTURE_CELLS = (5, 12)
TEXTURE_STRENGTH = (13.0, 8.0)


def _smooth_noise(rng: np.random.Generator, cells: int, height: int, width: int) -> Float[np.ndarray, "h w"]:
    """Draw random values in [-1, 1] on a grid of `cells` x `cells`, smoothly interpolated."""

    def weights(length: int) -> np.ndarray:
        position = np.linspace(0, cells - 1, length)
        distance = np.clip(1 - np.abs(position[:, None] - np.arange(cells)), 0, 1)
        return distance * distance * (3 - 2 * distance)

    grid = rng.uniform(-1, 1, (cells, cells))
    return weights(height) @ grid @ weights(width).T


def render_background(background: BackgroundLabels, height: int, width: int) -> Float[np.ndarray, "h w 3"]:
    """Return a nearly gray picture in [0, 255], always the same for the same labels and size."""
    rng = np.random.default_rng(background.seed)
    low, high = TONES[background.tone]
    tint = rng.uniform(-TINT, TINT, 3)
    if background.kind == "plain":
        light = np.full((height, width), rng.uniform(low, high))
    elif background.kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        y, x = np.mgrid[0:height, 0:width]
        ramp = np.cos(angle) * (x / max(width - 1, 1) - 0.5) + np.sin(angle) * (y / max(height - 1, 1) - 0.5)
        ramp /= max(np.abs(ramp).max(), 1e-6)
        light = (low + high) / 2 + ramp * (high - low) / 2
    elif background.kind == "texture":
        light = np.full((height, width), rng.uniform(low + 10, high - 10))
        for cells, strength in zip(TEXTURE_CELLS, TEXTURE_STRENGTH, strict=True):
            light = light + strength * _smooth_noise(rng, cells, height, width)
    else:
        raise ValueError(f"unknown background {background.kind!r}")
    return np.clip(light[..., None] + tint, 0, 255)


def _paint(video: Float[np.ndarray, "t h w 3"], thing: ObjectLabels, rows: slice) -> None:
    """Blend one object into the frames of `rows`, in place, touching only the box around it."""
    frames, height, width, _ = video[rows].shape
    position = thing.position[rows]
    radius = thing.radius[rows]
    angle = thing.angle[rows]
    side = int(np.ceil(2 * REACH[thing.shape] * radius.max())) + 3
    box_w, box_h = min(side, width), min(side, height)
    # Boxes of one size let all frames be painted at once; near a border the box is pushed back inside.
    left = np.clip(np.floor(position[:, 0] - side / 2).astype(int), 0, width - box_w)
    top = np.clip(np.floor(position[:, 1] - side / 2).astype(int), 0, height - box_h)
    columns = left[:, None] + np.arange(box_w)  # t w'
    lines = top[:, None] + np.arange(box_h)  # t h'
    x = (columns + 0.5 - position[:, :1]).astype(np.float32)[:, None, :]
    y = (lines + 0.5 - position[:, 1:]).astype(np.float32)[:, :, None]
    turn = angle.astype(np.float32)[:, None, None]
    alpha = coverage(thing.shape, x, y, radius.astype(np.float32)[:, None, None], turn)[..., None]
    colour = np.array(COLOURS[thing.colour], dtype=np.float32)
    at = np.arange(frames)[:, None, None], lines[:, :, None], columns[:, None, :]
    painted = video[rows]
    behind = painted[at]
    painted[at] = behind + alpha * (colour - behind)


def render(labels: ClipLabels, config: ShapeWorldConfig) -> UInt8[np.ndarray, "t h w 3"]:
    """Render the clip of `labels` at the size of `config`; positions in the labels are pixels of that size.

    The number of frames is that of the labels.
    """
    frames = labels.num_frames
    still = all(thing.motion == "still" for thing in labels.objects)
    background = render_background(labels.background, config.height, config.width).astype(np.float32)
    video = np.repeat(background[None], 1 if still else frames, axis=0)
    for thing in labels.objects:
        _paint(video, thing, slice(0, len(video)))
    pixels = np.rint(video).astype(np.uint8)
    return np.repeat(pixels, frames, axis=0) if still else pixels
