"""Containers through PyAV (FFmpeg): which are opened, where the video lies, what its times say, which can be sought."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.stream import Disposition
from jaxtyping import Float64

from vidgen.data.containers.file_ends import has_damaged_slice
from vidgen.data.sources import check_readable, explain_refusal
from vidgen.data.webdataset import archive_of, open_bytes
from vidgen.errors import VideoError

# What FFmpeg's bindings raise on damaged input: their own errors, and Python's for numbers that make no sense.
DECODER_ERRORS = (av.FFmpegError, OSError, ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError)
FALLBACK_FPS = 25.0  # what FFmpeg itself assumes where a file names no rate
# The formats behind the suffixes that are read. Others, such as playlists (HLS, DASH, ffconcat), may open other files.
RAW_FORMATS = ("h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "av1")
FORMATS = (
    *("mov", "matroska", "avi", "mpeg", "mpegts", "flv", "asf", "ogg", "gif", "yuv4mpegpipe", "ivf"),
    *(*RAW_FORMATS, "jpeg_pipe", "png_pipe"),
    *("wav", "mp3", "flac", "aac"),  # to say that there are no pictures
)
OPTIONS = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
INDEXED = "mov,mp4,m4a,3gp,3g2,mj2"
SEEKABLE = (INDEXED, "matroska,webm", "flv", "mpegts")  # by time; others guess where they landed
HEAD = 8  # packets whose times are held against the declared rate


@dataclass(frozen=True, kw_only=True)
class PacketTimes:
    """When a stream's pictures are due, in order, in the file's own clock, and until when each lasts; both (t,).

    count is of packets, those included that are not shown, and corrupt of those that are flagged; problem says why they
    break off.
    """

    times: Float64[np.ndarray, " t"]
    ends: Float64[np.ndarray, " t"]
    count: int
    corrupt: int
    problem: str | None = None

    def measure_rate(self, declared: float) -> float:
        """Return pictures a second; `declared` where there is one picture."""
        span = float(self.ends.max() - self.times[0]) if len(self.times) else 0.0
        return len(self.times) / span if len(self.times) > 1 and span > 0 else declared


class Container:
    """An opened file and its first video stream. Raises VideoError for what is no video, or in none of `FORMATS`."""

    def __init__(self, path: Path):
        check_readable(path)
        self._path = path
        self._file: BinaryIO | None = None
        self._opened: av.container.InputContainer | None = None
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        name = self._opened.format.name
        self.format = name
        codec = self.stream.codec_context
        reorders = name == "avi" and codec.has_b_frames
        # AVI has no times for frames that are reordered: FFmpeg makes them up, wrongly for these codecs
        self.is_timed = name not in RAW_FORMATS and not (reorders and codec.codec.canonical_name in ("h264", "hevc"))
        self.can_seek = name in SEEKABLE or (name == "avi" and not reorders)
        self.is_indexed = name == INDEXED
        self.metadata = self._opened.metadata
        self.rate = self._declared_rate()

    def _open(self) -> None:
        try:
            self._file = open_bytes(self._path) if archive_of(self._path) else None
            # the prefix keeps a colon in a name from being read as a protocol
            name = self._file or f"file:{self._path}"
            self._opened = av.open(name, metadata_errors="replace", options=OPTIONS)
        except av.ArgumentError as error:
            known = (
                "it is in none of the formats that are read (MP4, Matroska, WebM, AVI, MPEG, FLV, ASF, Ogg, GIF, ...)"
            )
            raise explain_refusal(self._path, known) from error
        except DECODER_ERRORS as error:
            raise explain_refusal(self._path, describe_error(error)) from error
        videos = self._opened.streams.video
        streams = [stream for stream in videos if not stream.disposition & Disposition.attached_pic]
        if not streams:
            raise VideoError(f"{self._path}: no video stream (audio or data only); give a file with pictures")
        self.stream = streams[0]
        if self.stream.codec_context is None:
            raise VideoError(f"{self._path}: FFmpeg has no decoder for its video stream; encode it again, as H.264")

    def close(self) -> None:
        """Close the file."""
        for opened in (self._opened, self._file):
            if opened is not None:
                opened.close()

    def packets(self) -> Iterator[av.Packet]:
        """Yield the stream's packets from the position on, and an empty one that flushes the decoder."""
        yield from self._opened.demux(self.stream)

    def seek(self, seconds: float) -> None:
        """Move to a key frame about `seconds` in the file's own clock."""
        self._opened.seek(int(seconds / self.stream.time_base), stream=self.stream)

    @property
    def tick(self) -> float:
        """Return the seconds to which times are rounded: GIF's are long, of others a millisecond is the longest."""
        return 0.01 if self.format == "gif" else 1e-3

    @property
    def promised_seconds(self) -> float | None:
        """Return how long the stream lasts by its own word; None where there is none, or it is that of the sound."""
        stream = self.stream
        if stream.duration:
            return float(stream.duration * stream.time_base)
        with suppress(KeyError, ValueError):
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
        alone = len(self._opened.streams) == 1
        return self._opened.duration / av.time_base if self._opened.duration and alone else None

    @property
    def promised_frames(self) -> int:
        """Return how many packets the file's index has; 0 for formats without one."""
        if self.is_indexed:
            return len(self.stream.index_entries)
        return self.stream.frames if self.format == "avi" else 0

    @property
    def shown_frames(self) -> int:
        """Return how many pictures the file's index has, without those that its edit list cuts off; 0 for none."""
        return sum(not entry.is_discard for entry in self.stream.index_entries) if self.is_indexed else 0

    def _declared_rate(self) -> float | None:
        stream = self.stream
        rates = (stream.average_rate, stream.guessed_rate)
        if self.format in RAW_FORMATS:  # the demuxer's is made up, the stream's stands in its headers
            rates = (stream.codec_context.framerate, stream.guessed_rate)
        return next((float(rate) for rate in rates if rate and 0 < rate < 90_000), None)

    def is_rate_doubtful(self, head: list[av.Packet]) -> bool:
        """Return whether the times of the first packets contradict the declared rate, if there is any."""
        if self.rate is None or self.format == "gif" or self.promised_seconds is None:
            return True
        if self.is_indexed or self.format == "avi":
            return False
        steps = np.diff(sorted(float(packet.pts * packet.time_base) for packet in head if packet.pts is not None))
        return len(steps) > 0 and not 0.6 < np.median(steps) * self.rate < 1.6

    def read_times(self) -> PacketTimes:
        """Return the times of all packets from the position on, read without decoding."""
        fps = self.rate or FALLBACK_FPS
        stamps: list[float | None] = []
        lengths: list[float] = []
        count = 0
        corrupt = 0
        has_damaged_slice = self.slice_check
        problem = None
        try:
            for packet in self.packets():
                count += packet.size > 0 or packet.pts is not None
                if packet.size and not packet.is_discard:
                    is_timed = packet.pts is not None and self.is_timed
                    stamps.append(float(packet.pts * packet.time_base) if is_timed else None)
                    lengths.append(float((packet.duration or 0) * packet.time_base))
                    corrupt += packet.is_corrupt or has_damaged_slice(packet)
        except DECODER_ERRORS as error:
            problem = describe_error(error)
        facts = {"count": count, "corrupt": corrupt, "problem": problem}
        if None in stamps:  # no presentation times in the file: evenly spaced, as they are decoded
            times = np.arange(len(stamps)) / fps
            return PacketTimes(times=times, ends=times + 1 / fps, **facts)
        order = np.argsort(np.array(stamps, np.float64), kind="stable")
        times = np.array(stamps, np.float64)[order]
        spans = np.array(lengths)[order]
        if len(times) > 1 and not spans.all():  # without lengths a picture lasts until the next, the last as most do
            steps = np.append(np.diff(times), np.median(np.diff(times)))
            spans = np.where(spans > 0, spans, np.minimum(steps, np.median(steps)))
        elif not spans.all():
            spans = np.full(len(times), 1 / fps)
        return PacketTimes(times=times, ends=times + spans, **facts)

    @property
    def slice_check(self):
        """Return the function that says whether a packet is damaged by its own checksum: FFV1 has one, and FFmpeg does
        not say what it finds."""
        context = self.stream.codec_context
        if context.codec.canonical_name == "ffv1" and context.extradata_size:
            return lambda packet: has_damaged_slice(bytes(packet))
        return lambda packet: False


def describe_error(error: Exception) -> str:
    """Return the first line of an error of FFmpeg's bindings, or its class where it has no words."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0].rstrip(".: ")
