"""What every kind of source (video file, image, folder of frames) gives: facts, and frames with their times."""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float64

from vidgen.data.damage import Damage
from vidgen.data.webdataset import archive_of, open_bytes
from vidgen.errors import VideoError

DEEP = re.compile("10|12|14|16|I;")  # formats of pixels with more than 8 bits
LFS_MAGIC = b"version https://git-lfs"


class FrameRef(NamedTuple):
    """One frame: shown from `time` for `length` seconds after the clip's first frame; pixels wait for `load()`."""

    time: float
    length: float
    load: Callable[[], np.ndarray]  # (h, w, 3) uint8, upright


class Timeline(NamedTuple):
    """When frames are shown: `times` (frames,) in seconds after the first frame, the last one until `end`."""

    times: Float64[np.ndarray, " t"]
    end: float


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file says about itself, after its first frame has been decoded.

    width and height are pixels as read: after rotation, never stretched for `pixel_aspect` (width over height of one
    pixel). fps is the average rate, duration is in seconds, and both and num_frames are the file's own word: exact for
    sound files, while a damaged file may hold less (`inspect_source` counts). start_time is the first presentation
    time in the file's own clock, in seconds. rotation counts degrees counter-clockwise. tick is what times are rounded
    to, in seconds, at most. hdr is PQ or HLG, or empty.
    """

    path: Path
    width: int
    height: int
    fps: float
    duration: float
    num_frames: int
    codec: str
    pix_fmt: str
    rotation: int = 0
    pixel_aspect: float = 1.0
    start_time: float = 0.0
    tick: float = 1e-3
    hdr: str = ""


class Source(Protocol):
    """An opened clip. `frames` may be called once: a decoder has one position.

    Damage is a VideoError where it is met, or, if the source was opened to allow it, is counted in `damage`.
    """

    info: VideoInfo
    damage: Damage

    def frames(self, start: float = 0.0) -> Iterator[FrameRef]:
        """Yield frames in the order they are shown, from the last one at or before `start` seconds, or from earlier."""

    def timeline(self) -> "Timeline":
        """Return the times of all frames, without decoding where the file allows; spends the source too."""


def file_mode(path: Path) -> int:
    """Return what kind of file a path is, for the functions of `stat`. Raises VideoError where nothing is."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        if archive_of(path) is None:
            raise VideoError(f"{path}: no such file; check the path") from None
        return stat.S_IFREG
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened: {error.strerror}; check the path and its permissions") from None


def check_readable(path: Path) -> None:
    """Raise VideoError for what no decoder has to look at: nothing there, nothing in it, a pipe, a Git LFS pointer."""
    mode = file_mode(path)
    if stat.S_ISDIR(mode):
        raise VideoError(f"{path}: a folder, but not of numbered frames; name a file, or a folder of 0001.png, ...")
    if not stat.S_ISREG(mode):
        raise VideoError(f"{path}: a named pipe, socket or device, not a file; save what it gives to a file first")
    try:
        with open_bytes(path) as file:
            head = file.read(len(LFS_MAGIC))
    except OSError as error:
        raise VideoError(f"{path}: cannot be opened: {error.strerror or error}; check its permissions") from error
    if not head:
        raise VideoError(f"{path}: the file is empty (0 bytes); copy or download it again")
    if head == LFS_MAGIC:
        raise VideoError(f"{path}: a Git LFS pointer, not the video itself; fetch it with `git lfs pull`")


def warnings_of(info: VideoInfo, damage: Damage, vfr: bool) -> list[str]:
    """Return a line for all that is unusual of a file; `vfr` is whether its frame rate varies."""
    notes = []
    if damage:
        notes.append(f"damaged: {damage}")
    if info.hdr:
        notes.append(f"HDR ({info.hdr}): read without tone mapping")
    if vfr:
        notes.append("variable frame rate: frames are picked by time")
    if info.rotation:
        notes.append(f"turned {info.rotation % 360} degrees counter-clockwise on reading")
    if not 0.9 < info.pixel_aspect < 1.12:
        notes.append(f"pixels are {info.pixel_aspect:.3g} times as wide as high; read without stretching")
    if DEEP.search(info.pix_fmt):
        notes.append(f"{info.pix_fmt}: read with 8 bits")
    if abs(info.start_time) > 0.5:
        notes.append(f"first time stamp is {info.start_time:.3f} s; times count from there")
    return notes


def explain_refusal(path: Path, reason: str) -> VideoError:
    """Return the error for a file the decoder refuses to open; looks at the bytes to say more than the decoder does."""
    with open_bytes(path) as file:
        head = file.read(512)
        if head[4:8] == b"ftyp" and not _has_index(file, file.seek(0, os.SEEK_END)):
            return VideoError(f"{path}: cut short: its index (moov) is missing; copy or download it again")
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in head):
        try:
            head[:500].decode("ascii")
            return VideoError(f"{path}: holds plain text, not video; check what was saved under this name")
        except UnicodeDecodeError:
            pass
    return VideoError(f"{path}: cannot be read as video: {reason}; check that it plays, or encode it again")


def _has_index(file, size: int) -> bool:
    """Walk the top-level boxes of an MP4 (ISO 14496-12, 4.2) in search of `moov`."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        kind = header[4:8]
        if kind in (b"moov", b"moof"):
            return True
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: up to the end of the file; 2 to 7: not a box
            return False
        position += length
    return False
