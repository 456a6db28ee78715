"""Windows that slide over a clip of any length, in the memory of one of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8

from vidgen.data.frames import Fit
from vidgen.data.manifests import ClipRecord
from vidgen.data.reading import iter_frames
from vidgen.errors import VideoError


@dataclass(frozen=True, kw_only=True)
class Window:
    """Frames of a clip from its frame number `first` on, and their presentation times in seconds after the file's first
    frame."""

    first: int
    frames: UInt8[np.ndarray, "t h w 3"]
    times: Float64[np.ndarray, " t"]


def sliding_windows(
    frames: Iterable[tuple[float, UInt8[np.ndarray, "h w 3"]]], num_frames: int, stride: int
) -> Iterator[Window]:
    """Yield windows of `num_frames` of (time, frame), one every `stride` frames. Where that leaves frames over at the
    end, a last one ends with the clip, so that with a stride of `num_frames` or less every frame is in one.

    Nothing for fewer frames than one window. ValueError for a window or stride of no frames.
    """
    if num_frames < 1 or stride < 1:
        raise ValueError(f"windows of {num_frames} frames every {stride} make no sense")
    recent: deque[tuple[float, np.ndarray]] = deque(maxlen=num_frames)
    count = 0  # of frames so far
    due = num_frames  # the count at which the next window is whole
    covered = 0  # the count at the last window
    for frame in frames:
        recent.append(frame)
        count += 1
        if count == due:
            yield stack(recent, count)
            due += stride
            covered = count
    if stride <= num_frames and covered < count and len(recent) == num_frames:
        yield stack(recent, count)


def clip_windows(
    record: ClipRecord,
    *,
    num_frames: int,
    stride: int,
    size: tuple[int, int],
    fps: float | None,
    fit: Fit = "crop",
    allow_damaged: bool = False,
) -> Iterator[Window]:
    """Yield the windows of a clip, or of the part that its record names; see `sliding_windows` and `iter_frames`.

    Args:
        record: the clip.
        num_frames: frames of a window.
        stride: frames from one window to the next.
        size: height and width of the frames.
        fps: the rate to sample at; None: the file's own frames.
        fit: how to get to that size; see `fit_frame`.
        allow_damaged: take what there is of a damaged file, and warn.

    Raises VideoError, after the windows before it, where the file is damaged, and for a clip shorter than a window.
    """
    frames = iter_frames(
        record.path,
        start=record.start,
        duration=record.duration,
        fps=fps,
        size=size,
        fit=fit,
        native_fps=record.fps,
        allow_damaged=allow_damaged,
    )
    count = 0

    def counted() -> Iterator[tuple[float, np.ndarray]]:
        nonlocal count
        for frame in frames:
            count += 1
            yield frame

    yield from sliding_windows(counted(), num_frames, stride)
    if count < num_frames:
        rate = f" at {fps:g} fps" if fps else ""
        raise VideoError(f"{record.path}: {count} frames{rate}, {num_frames} needed")


def stack(recent: Iterable[tuple[float, np.ndarray]], count: int) -> Window:
    """Return the window of the last frames of which `count` have passed."""
    times, frames = zip(*recent, strict=True)
    return Window(first=count - len(frames), frames=np.stack(frames), times=np.array(times, np.float64))
