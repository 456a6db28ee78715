"""Drift of a long clip: how colour, contrast and sharpness change from its first segment to its last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

LUMA = np.array([0.2126, 0.7152, 0.0722])  # BT.709


@dataclass(frozen=True, kw_only=True)
class DriftSegment:
    """Some frames in a row, from number `start`: all in levels of 255.

    `colour`: means of red, green and blue. `contrast`: standard deviation of luma over each frame, averaged.
    `sharpness`: root mean square difference of luma between neighboring pixels.
    """

    start: int
    num_frames: int
    colour: tuple[float, float, float]
    contrast: float
    sharpness: float


def measure_segment(frames: UInt8[np.ndarray, "t h w 3"], start: int = 0) -> DriftSegment:
    """Measure frames. Raises ValueError for frames of a single pixel, which have no neighbors."""
    if frames.ndim != 4 or len(frames) < 1 or max(frames.shape[1:3]) < 2:
        raise ValueError(f"frames {frames.shape} must be (t >= 1, h, w, 3) of at least two pixels")
    luma = frames @ LUMA
    colour = frames.mean(axis=(0, 1, 2), dtype=np.float64)
    return DriftSegment(
        start=start,
        num_frames=len(frames),
        colour=tuple(float(value) for value in colour),
        contrast=float(luma.std(axis=(1, 2)).mean()),
        sharpness=rms_difference(luma),
    )


def rms_difference(luma: Float64[np.ndarray, "t h w"]) -> float:
    """Return the root mean square difference of neighbors across and down, all together."""
    across = np.diff(luma, axis=2)
    down = np.diff(luma, axis=1)
    return float(np.sqrt((np.square(across).sum() + np.square(down).sum()) / (across.size + down.size)))


def describe_drift(segments: list[DriftSegment]) -> dict[str, object]:
    """Compare the last segment with the first: `colour` is the distance of their mean colours, `contrast` and
    `sharpness` their ratios, 1 for none (null where the first has none); and all segments."""
    first, last = segments[0], segments[-1]
    rows = [
        {
            "start": s.start,
            "num_frames": s.num_frames,
            "colour": [round(value, 3) for value in s.colour],
            "contrast": round(s.contrast, 3),
            "sharpness": round(s.sharpness, 3),
        }
        for s in segments
    ]
    return {
        "colour": round(float(np.linalg.norm(np.subtract(last.colour, first.colour))), 3),
        "contrast": round(last.contrast / first.contrast, 4) if first.contrast else None,
        "sharpness": round(last.sharpness / first.sharpness, 4) if first.sharpness else None,
        "segments": rows,
    }
