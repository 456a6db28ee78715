"""Transforms of clips as they happen to copies: recompression, crop, logo, speed, mirror; for finding the original."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8

from vidgen.data.frames import fit_frame
from vidgen.data.video_codecs import CODECS, compress, decompress

CROP = 0.8  # of each side, the part inside the crop
LOGO = 0.3  # of the shorter side
OPACITY = 0.85  # of the logo
SPEED = 2

Frames = UInt8[np.ndarray, "t h w 3"]
Transform = Callable[[Frames, float], Frames]  # of frames at a rate, which stays


def recompress(crf: int) -> Transform:
    """Return a transform that recompresses by x264 at a constant rate factor."""

    def transform(frames: Frames, fps: float) -> Frames:
        return np.stack(list(decompress(compress(frames, CODECS["x264"], crf=crf, fps=fps))))

    return transform


def crop(frames: Frames, fps: float) -> Frames:
    """Crop the middle of every frame, and resize it to the full size."""
    height, width = frames.shape[1:3]
    rows, columns = (max(1, round(n * CROP)) for n in (height, width))
    top, left = (height - rows) // 2, (width - columns) // 2
    inner = frames[:, top : top + rows, left : left + columns]
    return np.stack([fit_frame(np.ascontiguousarray(frame), (height, width), "stretch") for frame in inner])


def add_logo(frames: Frames, fps: float) -> Frames:
    """Add a white square with a dark ring in it, a little away from the lower right corner, the same in every frame."""
    height, width = frames.shape[1:3]
    side = max(2, round(LOGO * min(height, width)))
    margin = min(side // 6, height - side, width - side)
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side - 0.5
    ring = np.abs(np.hypot(x, y) - 0.3) < 0.1
    logo = np.where(ring, 40.0, 250.0)[..., None]
    result = frames.copy()
    corner = result[:, height - margin - side : height - margin, width - margin - side : width - margin]
    corner[...] = np.rint(corner + OPACITY * (logo - corner)).astype(np.uint8)
    return result


def speed_up(frames: Frames, fps: float) -> Frames:
    """Take every second frame: the clip is half as long."""
    return frames[::SPEED]


def mirror(frames: Frames, fps: float) -> Frames:
    """Exchange left and right."""
    return np.ascontiguousarray(frames[:, :, ::-1])


TRANSFORMS: dict[str, Transform] = {
    "unchanged": lambda frames, fps: frames,
    "x264-28": recompress(28),
    "x264-40": recompress(40),
    "crop": crop,
    "logo": add_logo,
    "speed": speed_up,
    "mirrored": mirror,
}
