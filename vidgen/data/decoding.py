"""Video files through PyAV (FFmpeg): seek, decode in presentation order, apply rotation, name what is wrong."""

import os
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter

from vidgen.data.frames import composite_on_black
from vidgen.data.sources import FrameRef, Timeline, VideoInfo, explain_refusal
from vidgen.data.webdataset import archive_of, open_bytes
from vidgen.errors import VideoError

# What FFmpeg's bindings raise on damaged input: their own errors, and Python's for numbers that make no sense.
DECODER_ERRORS = (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError)
FALLBACK_FPS = 25.0  # what FFmpeg itself assumes where a file names no rate
# FFmpeg's quick path repeats chroma samples; interpolating them is worth 5 to 12 dB on smooth colour (measured).
TO_RGB = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT | Interpolation.ACCURATE_RND
THREADS = min(4, os.cpu_count() or 1)  # more delays the first frame, and loaders run many readers at once
SIZE_TAG = re.compile(r"vidgen:size=(\d+)x(\d+)")


class _Decoded(NamedTuple):
    time: float  # seconds in the file's own clock
    length: float
    frame: av.VideoFrame


class VideoFile:
    """The first video stream of a file; see `sources.Source`. A context manager; opening decodes one frame.

    Pixels are the stored ones: no tone mapping, no stretching of non-square pixels, no deinterlacing. Opacity is
    composited on black where FFmpeg decodes it (its own VP8 and VP9 decoders do not). Raises VideoError.
    """

    def __init__(self, path: Path):
        self._path = path
        self._container = None
        self._file = None
        self._origin = 0.0
        self._reformatter = VideoReformatter()
        try:
            self._decoded = self._open()
            self._first = next(self._decoded, None)
            if self._first is None:
                raise VideoError(f"{path}: no frames (a header without pictures); copy or download it again")
            self._origin = self._first.time
            self.info = self._read_info()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let go of the decoder at once: its threads must not live on into a fork."""
        self._close_container()
        self._container = self._file = self._stream = self._decoded = self._first = None

    def frames(self, start: float = 0.0) -> Iterator[FrameRef]:
        """See `sources.Source.frames`; a later start seeks to the key frame before it and decodes on from there."""
        first, self._first = self._first, None
        assert first is not None, "frames() was called before: open the file again"
        for time, length, frame in chain([first], self._decoded) if start <= first.length else self._seek(start):
            yield FrameRef(time - self._origin, length, partial(self._pixels, frame), frame.is_corrupt)

    def timeline(self) -> Timeline:
        """See `sources.Source.timeline`: read off the packets, so the file is read but not decoded."""
        self._open()
        stamps, lengths = [], []
        try:
            for packet in self._container.demux(self._stream):
                if packet.size and not packet.is_discard:
                    stamps.append(None if packet.pts is None else float(packet.pts * packet.time_base))
                    lengths.append(float((packet.duration or 0) * packet.time_base) or 1 / self._fps)
        except DECODER_ERRORS as error:
            raise self._interrupted(len(stamps), self._origin, describe_error(error)) from error
        if None in stamps:  # no presentation times in the file: evenly spaced, as in `_decode`
            return Timeline(times=np.arange(len(stamps)) / self._fps, end=len(stamps) / self._fps)
        order = np.argsort(stamps, kind="stable")
        times = np.array(stamps)[order] - self._origin
        # nothing is shown before the first frame that decodes
        return Timeline(times=times[times > -1e-9].clip(min=0.0), end=times[-1] + lengths[order[-1]])

    def _open(self) -> Iterator[_Decoded]:
        """(Re)open the file at its beginning and return its frames, in the file's own clock."""
        self._close_container()
        try:
            self._file = open_bytes(self._path) if archive_of(self._path) else None
            # the prefix keeps a colon in a name from being read as a protocol
            self._container = av.open(self._file or f"file:{self._path}", metadata_errors="replace")
        except DECODER_ERRORS as error:
            raise explain_refusal(self._path, describe_error(error)) from error
        streams = [s for s in self._container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise VideoError(f"{self._path}: no video stream (audio or data only); give a file with pictures")
        self._stream = streams[0]
        if self._stream.codec_context is None:
            raise VideoError(f"{self._path}: FFmpeg has no decoder for its video stream; encode it again, as H.264")
        self._stream.codec_context.thread_type = "AUTO"
        self._stream.codec_context.thread_count = THREADS
        rate = self._stream.average_rate or self._stream.guessed_rate
        self._fps = float(rate) if rate and 0 < rate < 90_000 else FALLBACK_FPS
        tag = SIZE_TAG.search(self._container.metadata.get("comment", ""))
        self._true_size = (int(tag[2]), int(tag[1])) if tag else None  # of an odd size, padded by `write_video`
        return self._decode()

    def _close_container(self) -> None:
        for opened in (self._container, self._file):
            if opened is not None:
                opened.close()

    def _decode(self) -> Iterator[_Decoded]:
        """Yield frames from the decoder's position on, in the order shown. Raises VideoError where it breaks."""
        count = 0
        time = -np.inf
        length = 1 / self._fps
        size = None
        try:
            for frame in self._container.decode(self._stream):
                if size not in (None, (frame.width, frame.height)):
                    change = f"the frame size changes from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                    raise self._interrupted(count, time, change)
                stamp = float(frame.pts * frame.time_base) if frame.pts is not None else count / self._fps
                time = max(time, stamp)  # a stamp that runs backwards is damage: frames come in the order shown
                length = float(frame.duration * frame.time_base) if frame.duration else 1 / self._fps
                size = (frame.width, frame.height)
                count += 1
                yield _Decoded(time, length, frame)
        except VideoError:
            raise
        except DECODER_ERRORS as error:
            raise self._interrupted(count, time, describe_error(error)) from error
        promised = self._promised_seconds()
        if count and promised > time - self._origin + length + max(2 / self._fps, 0.02 * promised):
            raise self._interrupted(count, time, f"the data ends before the {promised:.2f} s that its index promises")

    def _seek(self, start: float) -> Iterator[_Decoded]:
        """Decode from a key frame at or before `start`: from an earlier one if that fails, else from the beginning.

        Frames between the place of a seek and its key frame are dropped: they refer to pictures never decoded. Where
        the index points past the target (open groups of pictures, transport streams), an earlier seek is right.
        """
        for margin in (0.0, 2.0, 10.0):
            target = self._origin + max(start - margin, 0.0)
            try:
                self._container.seek(int(target / self._stream.time_base), stream=self._stream)
                decoded = self._decode()
                key = next((frame for frame in decoded if frame.frame.key_frame), None)
            except DECODER_ERRORS:
                continue  # this file cannot seek, or is damaged here: reading it in order says which
            if key is not None and key.time <= self._origin + start + 1e-9:
                return chain([key], decoded)
        return self._open()

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        """Return upright RGB (h, w, 3) uint8; opacity is composited on black. FFmpeg heeds the frame's matrix and
        range."""
        if any(component.is_alpha for component in frame.format.components):
            rgb = composite_on_black(self._reformat(frame, "rgba"))
        else:
            rgb = self._reformat(frame, "rgb24")
        if self._true_size and tuple(n + n % 2 for n in self._true_size) == rgb.shape[:2]:
            rgb = rgb[: self._true_size[0], : self._true_size[1]]
        return np.ascontiguousarray(apply_display_matrix(rgb, _display_matrix(frame)))

    def _reformat(self, frame: av.VideoFrame, pix_fmt: str) -> np.ndarray:
        return self._reformatter.reformat(frame, format=pix_fmt, interpolation=TO_RGB, threads=1).to_ndarray()

    def _promised_seconds(self) -> float:
        """Return how long the index of an MP4 says the stream is; 0 for formats without such an index."""
        if "mp4" not in self._container.format.name or not self._stream.frames or not self._stream.duration:
            return 0.0
        return float(self._stream.duration * self._stream.time_base)

    def _interrupted(self, count: int, time: float, reason: str) -> VideoError:
        if count == 0:
            return VideoError(f"{self._path}: no frame decodes: {reason}; copy or encode the file again")
        seconds = max(time - self._origin, 0.0)
        return VideoError(
            f"{self._path}: damaged: {count} frame{'s' * (count > 1)} decoded (to {seconds:.2f} s), then {reason}; "
            "copy or encode it again, or keep those frames with strict=False"
        )

    def _read_info(self) -> VideoInfo:
        stream = self._stream
        context = self._stream.codec_context
        frame = self._first.frame
        height, width = self._pixels(frame).shape[:2]
        if stream.duration:
            duration = float(stream.duration * stream.time_base)
        elif self._container.duration:
            duration = self._container.duration / av.time_base
        else:
            duration = self._first.length
        turned = frame.rotation if frame.rotation in (-180, -90, 90, 180) else 0
        return VideoInfo(
            path=self._path,
            width=width,
            height=height,
            fps=self._fps,
            duration=duration,
            num_frames=max(round(duration * self._fps), 1),
            codec=context.codec.canonical_name,
            pix_fmt=frame.format.name,
            rotation=turned,
            pixel_aspect=float(stream.sample_aspect_ratio or 1),
            start_time=self._origin,
        )


def apply_display_matrix(frame: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turn and mirror (h, w, 3) pixels as the 3x3 display matrix says (ISO 14496-12, 6.2.2), in quarter turns.

    The matrix maps a stored point (p, q) to the shown one (a p + c q, b p + d q). One that is no multiple of a
    quarter turn, or makes no sense, leaves the frame as it is.
    """
    if matrix is None:
        return frame
    (a, b), (c, d) = np.sign(matrix[:2, :2])
    if a and d and not (b or c):
        return frame[:: int(d), :: int(a)]
    if b and c and not (a or d):
        return frame.swapaxes(0, 1)[:: int(b), :: int(c)]
    return frame


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(data, np.int32).reshape(3, 3)


def describe_error(error: Exception) -> str:
    """Return the first line of an error of FFmpeg's bindings, or its class where it has no words."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0].rstrip(".: ")
