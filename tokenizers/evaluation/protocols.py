"""Protocols: which frames of each clip an evaluation takes, at which size, by the names that published tables have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from vidgen.data.frames import Fit
from vidgen.data.manifests import ClipRecord
from vidgen.data.reading import iter_frames, probe_video
from vidgen.errors import VideoError, VidgenError

Frame = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True)
class ClipProtocol:
    """What is taken of each clip.

    num_frames: frames of a window; a clip with fewer is left out. None: all, at most `max_frames`.
    size, fit: as `vidgen.data.fit_frame` has them; "crop" scales the short side and cuts around the center.
    max_side: frames whose short side is longer are scaled down to it, with their aspect ratio.
    fps: sampled at this rate, by presentation time. near_fps: every k-th frame instead, k = round(fps of the file /
        near_fps), at least 1, so that no frame comes twice.
    windows: "head" is the first window; "all" is one behind the other to the end of the clip, the last one filled up by
        repeating its last frame, each encoded on its own and the clip's score their mean.
    """

    about: str = ""
    num_frames: int | None = None
    max_frames: int | None = None
    max_seconds: float | None = None
    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    max_side: int | None = None
    fps: float | None = None
    near_fps: float | None = None
    windows: Literal["head", "all"] = "head"


_SQUARE_256 = {"num_frames": 33, "size": (256, 256)}
_SQUARE_128 = {"size": (128, 128), "about": "UCF-101's test clips, short side 128, center crop, first frames"}
PROTOCOLS: dict[str, ClipProtocol] = {
    "mcljcv-17x256@30fps": ClipProtocol(
        about="MCL-JCV as VidTok's table has it: all windows of 17 frames, short side 256, center crop, about 30 fps",
        num_frames=17,
        size=(256, 256),
        near_fps=30.0,
        windows="all",
    ),
    "webvid-33x256": ClipProtocol(about="WebVid as WF-VAE has it: first 33 frames, 256, center crop", **_SQUARE_256),
    "panda-33x256": ClipProtocol(about="Panda-70M as WF-VAE has it: first 33 frames, 256, center crop", **_SQUARE_256),
    "ucf101-16x128": ClipProtocol(num_frames=16, **_SQUARE_128),
    "ucf101-17x128": ClipProtocol(num_frames=17, **_SQUARE_128),
    "davis": ClipProtocol(about="DAVIS: whole clips at the size of the files"),
    "tokenbench": ClipProtocol(
        about="TokenBench: first 300 frames, short side at most 1080", max_frames=300, max_side=1080
    ),
}


def find_protocol(name: str) -> ClipProtocol:
    """Return the protocol of that name. Raises VidgenError, with the names that there are, for any other."""
    if name not in PROTOCOLS:
        raise VidgenError(f"--protocol {name!r} is unknown; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(kw_only=True)
class ClipWindows:
    """The windows of one clip. fps is their rate; notes say what makes a score of the clip look better than it is."""

    fps: float
    notes: list[str] = field(default_factory=list)
    windows: Iterator[Iterable[Frame]]


def open_windows(record: ClipRecord, protocol: ClipProtocol) -> ClipWindows:
    """Open a clip; its frames are decoded as the windows are iterated, each before the next.

    Raises VideoError if the clip cannot be read, there or while its frames come, or has fewer frames than a window.
    """
    info = probe_video(record.path, record.fps or protocol.fps)
    height, width = info.height, info.width
    fps = protocol.fps or info.fps
    step = 1
    notes = []
    size = protocol.size
    if protocol.max_side is not None and min(height, width) > protocol.max_side:
        scale = protocol.max_side / min(height, width)
        size = (round(height * scale), round(width * scale))
    if size is not None and (size[0] > height or size[1] > width):
        notes.append(f"enlarged from {height}x{width}")
    if protocol.fps is not None and info.fps < 0.99 * protocol.fps:
        notes.append(f"{info.fps:g} fps sampled at {protocol.fps:g}: frames repeat")
    if protocol.near_fps is not None:
        step = max(1, round(info.fps / protocol.near_fps))
        fps = info.fps / step
    durations = [d for d in (record.duration, protocol.max_seconds) if d is not None]
    decoded = iter_frames(
        record.path,
        start=record.start,
        duration=min(durations) if durations else None,
        fps=protocol.fps,
        size=size,
        fit=protocol.fit,
        native_fps=record.fps,
    )
    frames = (frame for _, frame in islice(decoded, 0, None, step))
    return ClipWindows(fps=fps, notes=notes, windows=_cut(frames, protocol, record))


def _cut(frames: Iterator[Frame], protocol: ClipProtocol, record: ClipRecord) -> Iterator[Iterable[Frame]]:
    n = protocol.num_frames
    if n is None:
        yield islice(frames, protocol.max_frames)
        return
    yield _exactly(frames, n, record)
    while protocol.windows == "all" and (window := list(islice(frames, n))):
        yield window + [window[-1]] * (n - len(window))


def _exactly(frames: Iterator[Frame], n: int, record: ClipRecord) -> Iterator[Frame]:
    count = 0
    for frame in islice(frames, n):
        count += 1
        yield frame
    if count < n:
        raise VideoError(f"{record.path}: {count} frames, {n} needed")


def check_protocol(protocol: ClipProtocol) -> ClipProtocol:
    """Return `protocol`. Raises VidgenError for a window that holds nothing."""
    if protocol.max_seconds is not None and not 0 < protocol.max_seconds < inf:
        raise VidgenError(f"--max-seconds {protocol.max_seconds:g} leaves nothing; give more than 0")
    return protocol
