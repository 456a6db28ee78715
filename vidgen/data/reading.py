"""Reading clips: what a file is, its frames by presentation time, and a window of them as one array."""

import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt8

from vidgen.data.damage import Damage
from vidgen.data.decoding import VideoFile
from vidgen.data.frames import Fit, check_size, fit_frame
from vidgen.data.images import FrameFolder, ImageFile, is_image
from vidgen.data.sources import FrameRef, Source, VideoInfo, check_readable, file_mode
from vidgen.errors import VideoError

Short = Literal["error", "keep", "repeat"]


@dataclass(frozen=True, kw_only=True)
class VideoClip:
    """Frames of one file. times are seconds after the file's first frame, of the frames shown, so uneven where the
    file's are; fps is the rate they were sampled at, or else that of their times. damage is what is wrong with the file
    as far as it was read, and false while nothing is."""

    frames: UInt8[np.ndarray, "t h w 3"]
    times: Float64[np.ndarray, " t"]
    fps: float
    path: Path
    damage: Damage = field(default_factory=Damage)

    @property
    def error(self) -> str | None:
        """Return what is wrong with the file, as one line, or None."""
        return f"{self.path}: damaged: {self.damage}" if self.damage else None


def open_source(path: str | Path, native_fps: float | None = None, *, allow_damaged: bool = False) -> Source:
    """Open a video file, an image, or a folder of numbered frames at `native_fps`, as a context manager.

    allow_damaged: go on where the file is damaged, and count it in the source's `damage`. Raises VideoError for what is
    none of them.
    """
    path = path if isinstance(path, Path) else Path(path)
    if stat.S_ISDIR(file_mode(path)):
        return FrameFolder(path, native_fps, allow_damaged)
    check_readable(path)
    return ImageFile(path, allow_damaged) if is_image(path) else VideoFile(path, allow_damaged)


def probe_video(path: str | Path, native_fps: float | None = None, *, allow_damaged: bool = False) -> VideoInfo:
    """Return what a file says about itself; its first frame is decoded on the way. Raises VideoError."""
    with open_source(path, native_fps, allow_damaged=allow_damaged) as source:
        return source.info


def clock_slack(info: VideoInfo) -> float:
    """Return how late, in seconds, a frame may come and still count as on screen when it is due.

    Containers round times, to a millisecond in Matroska and ten in GIF; the slack stays under half a frame.
    """
    return min(1.1 * info.tick, 0.4 / info.fps)


def iter_frames(
    path: str | Path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    fps: float | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "crop",
    native_fps: float | None = None,
    allow_damaged: bool = False,
    damage: Damage | None = None,
) -> Iterator[tuple[float, UInt8[np.ndarray, "h w 3"]]]:
    """Yield (time, frame) in the order shown, in memory that does not grow with the clip.

    Args:
        path: a video, an image, or a folder of numbered frames.
        start: where the window begins, in seconds after the file's first frame; files are sought, not decoded up to it.
        duration: the length of the window in seconds; None: to the end.
        fps: sample at this rate: frame k is the one on screen at `start + k / fps`, whatever the file's own rate and
            however uneven it is. None gives every frame whose time lies in the window.
        size: (height, width), or one number for a square.
        fit: how to get to that size; see `fit_frame`.
        native_fps: the rate of a folder of numbered frames (`fps`, or 25, where it is None); files know theirs.
        allow_damaged: take what there is of a damaged file, frames that the decoder flags included, and warn.
        damage: filled in with what is wrong, in place of the warning.

    A still image is one frame. Raises VideoError, with what and where, when the file cannot be opened, is damaged or
    cut (after the frames before the damage were yielded; what lies behind the window does not matter), or has no frame
    in the window.
    """
    with open_source(path, native_fps or fps, allow_damaged=allow_damaged) as source:
        try:
            yield from _window(source, start, duration, fps, size, fit)
        finally:
            if damage is not None:
                damage.update(source.damage)
            elif source.damage:
                warnings.warn(f"{path}: damaged: {source.damage}", stacklevel=2)


def read_video(
    path: str | Path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    num_frames: int | None = None,
    fps: float | None = None,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "crop",
    native_fps: float | None = None,
    short: Short = "error",
    allow_damaged: bool = False,
    strict: bool | None = None,
) -> VideoClip:
    """Read a window of a clip into memory.

    Args:
        path, start, duration, fps, size, fit, native_fps: as of `iter_frames`.
        num_frames: stop after so many frames.
        short: where there are fewer, "error" raises VideoError, "keep" returns those and "repeat" holds the last one.
        allow_damaged: take what there is of a damaged file, and say in the clip's `damage` what is wrong; else raise.
        strict: the former name of the opposite.
    """
    if strict is not None:
        warnings.warn("strict=... is now called allow_damaged=..., its opposite", FutureWarning, stacklevel=2)
        allow_damaged = not strict
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    frames = []
    times = []
    with open_source(path, native_fps or fps, allow_damaged=allow_damaged) as source:
        for time, frame in islice(_window(source, start, duration, fps, size, fit), num_frames):
            times.append(time)
            frames.append(frame)
        damage = source.damage
        rate = fps or _rate_of(times, source.info)
    missing = (num_frames or 0) - len(frames)
    if missing > 0 and short == "error":
        window = f"from {start:g} s" + (f" at {fps:g} fps" if fps else "")
        raise VideoError(f"{path}: {len(frames)} frames {window}, {num_frames} asked; ask for fewer, or a higher fps")
    if missing > 0 and short == "repeat":
        frames += [frames[-1]] * missing
        times += [times[-1] + (k + 1) / rate for k in range(missing)]
    return VideoClip(
        frames=np.stack(frames), times=np.array(times, np.float64), fps=float(rate), path=Path(path), damage=damage
    )


def _rate_of(times: list[float], info: VideoInfo) -> float:
    """Return the file's rate, or that of these times where they tell of another."""
    span = times[-1] - times[0]
    if span <= 0 or abs(span * info.fps - (len(times) - 1)) <= max(0.05 * (len(times) - 1), 2 * info.tick * info.fps):
        return info.fps
    return (len(times) - 1) / span


def _window(
    source: Source, start: float, duration: float | None, fps: float | None, size: int | tuple | None, fit: Fit
) -> Iterator[tuple[float, np.ndarray]]:
    """Run `iter_frames` on an opened source."""
    if not 0 <= start < inf:
        raise ValueError(f"start must be 0 or more seconds, got {start}")
    if duration is not None and not duration > 0:
        raise ValueError(f"duration must be more than 0 seconds, got {duration}")
    if fps is not None and not 0 < fps < inf:
        raise ValueError(f"fps must be positive, got {fps}")
    size = check_size(size)
    end = inf if duration is None else start + duration
    slack = min(clock_slack(source.info), 0.4 * (end - start))
    pixels, source_frame, last = None, None, None
    for due, last in _pick(source.frames(start), start, end, fps, slack):
        if due and last is not source_frame:
            source_frame = last
            pixels = fit_frame(last.load(), size, fit)
        if due:
            yield last.time, pixels
    if source_frame is None:
        window = f"from {start:g} s on" if end == inf else f"between {start:g} and {end:g} s"
        raise VideoError(
            f"{source.info.path}: no frame {window}; its last one is at {last.time:.3f} s, ask for an earlier window"
        )


def _pick(
    frames: Iterator[FrameRef], start: float, end: float, fps: float | None, slack: float
) -> Iterator[tuple[bool, FrameRef]]:
    """Yield (due, frame) for frames as they pass: due as often as the window has this frame, else passed over."""
    if fps is None:
        for frame in frames:
            if frame.time >= end - slack:
                return
            yield frame.time >= start - slack, frame
        return
    count = 0
    last: FrameRef | None = None
    for frame in frames:
        while last is not None and start + count / fps < min(end, frame.time) - slack:
            yield True, last
            count += 1
        if start + count / fps >= end - slack:
            return
        last = frame
        yield False, last
    if count == 0 and abs(last.time - start) <= slack:  # a still lasts no time, and counts all the same
        yield True, last
        count = 1
    while start + count / fps < min(end, last.time + last.length) - slack:
        yield True, last
        count += 1
