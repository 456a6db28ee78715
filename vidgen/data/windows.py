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


def slide(frames: Iterable[tuple[float, UInt8[np.ndarray, "h w 3"]]], num_frames: int, stride: int) -> Iterator[Window]:
    """Windows of `num_frames` of (time, frame), one every `stride` frames. Where that leaves frames over at the end, a
    last one ends with the clip, so that with a stride of `num_frames` or less every frame is in one.

    Nothing for fewer frames than one window. ValueError for a window or stride of no frames.
    """
    if num_frames < 1 or stride < 1:
        raise ValueError(f"windows of {num_frames} frames every {stride} make no sense")
    held: deque[tuple[float, np.ndarray]] = deque(maxlen=num_frames)
    count, due, covered = 0, num_frames, 0
    for one in frames:
        held.append(one)
        count += 1
        if count == due:
            yield stack(held, count)
            due, covered = due + stride, count
    if stride <= num_frames and covered < count and len(held) == num_frames:
        yield stack(held, count)


def slide_over(
    record: ClipRecord, *, num_frames: int, stride: int, size: tuple[int, int], fps: float | None, fit: Fit = "crop"
) -> Iterator[Window]:
    """The windows of a clip, or of the part that its record names; see `slide` and `iter_frames`.

    Raises VideoError, after the windows before it, where the file is damaged, and for a clip shorter than a window.
    """
    shown = iter_frames(
        record.path,
        start=record.start,
        duration=record.duration,
        fps=fps,
        size=size,
        fit=fit,
        native_fps=record.fps,
    )
    count = 0

    def counted() -> Iterator[tuple[float, np.ndarray]]:
        nonlocal count
        for one in shown:
            count += 1
            yield one

    yield from slide(counted(), num_frames, stride)
    if count < num_frames:
        rate = f" at {fps:g} fps" if fps else ""
        raise VideoError(f"{record.path}: {count} frames{rate}, {num_frames} needed")


def stack(held: Iterable[tuple[float, np.ndarray]], count: int) -> Window:
    times, frames = zip(*held, strict=True)
    return Window(first=count - len(frames), frames=np.stack(frames), times=np.array(times, np.float64))
