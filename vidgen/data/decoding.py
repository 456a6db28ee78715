"""Video files through PyAV (FFmpeg): seek, decode in presentation order, apply rotation, name what is wrong."""

import os
import warnings
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from vidgen.data.containers.file_ends import find_cut
from vidgen.data.containers.frame_pixels import HDR, FramePixels
from vidgen.data.containers.opening import DECODER_ERRORS, FALLBACK_FPS, HEAD, Container, PacketTimes, describe_error
from vidgen.data.damage import Damage, EvenSteps, damage_error
from vidgen.data.sources import FrameRef, Timeline, VideoInfo
from vidgen.errors import VideoError

THREADS = min(4, os.cpu_count() or 1)  # more delays the first frame, and loaders run many readers at once
CHECKS = "crccheck+bitstream+buffer+explode"  # decoders refuse what they would patch up without a word


class _Decoded(NamedTuple):
    time: float  # seconds in the file's own clock
    length: float
    frame: av.VideoFrame


class VideoFile:
    """The first video stream of a file; see `sources.Source`. A context manager; opening decodes one frame.

    Pixels are the stored ones: no tone mapping (a file in HDR warns), no stretching of non-square pixels, no
    deinterlacing. A file that does not name its matrix is BT.709 from 720 lines on, else BT.601. Opacity is
    composited on black where FFmpeg decodes it (its own VP8 and VP9 decoders do not).

    allow_damaged: go on behind what is damaged, and count it in `damage`. Raises VideoError.
    """

    def __init__(self, path: Path, allow_damaged: bool = False):
        self._path = path
        self._allow_damaged = allow_damaged
        self._origin = 0.0
        self._measured_fps: float | None = None
        self._container: Container | None = None
        try:
            self._decoded = self._open()
            self._first = next(self._decoded, None)
            if self._first is None:
                reason = str(self.damage) or "a header without pictures"
                raise VideoError(f"{path}: no frames ({reason}); copy or download it again")
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
        if self._container is not None:
            self._container.close()
        self._container = self._decoded = self._first = None

    def frames(self, start: float = 0.0) -> Iterator[FrameRef]:
        """See `sources.Source.frames`; a later start seeks to the key frame before it and decodes on from there."""
        first, self._first = self._first, None
        assert first is not None, "frames() was called before: open the file again"
        for time, length, frame in chain([first], self._decoded) if start <= first.length else self._seek(start):
            yield FrameRef(time - self._origin, length, partial(self._pixels.read, frame))

    def timeline(self) -> Timeline:
        """See `sources.Source.timeline`: read off the packets, so the file is read but not decoded."""
        self._open()
        packets = self._container.read_times()
        if not len(packets.times):
            raise damage_error(self._path, 0, 0.0, packets.problem or "it has no packets")
        steps = EvenSteps(self._fps, self._container.tick)
        for time, end in zip(packets.times, packets.ends, strict=True):
            steps.add(time, end)
        reach = len(packets.times), float(packets.ends.max())
        self._check_end(reach[0], packets.count, reach[1], steps)
        if packets.problem is not None:
            self._note(*reach, packets.problem)
        if packets.corrupt:
            self._note(*reach, f"{packets.corrupt} packets are flagged as damaged")
        times = packets.times - self._origin
        # nothing is shown before the first frame that decodes
        return Timeline(times=times[times > -1e-9].clip(min=0.0), end=reach[1] - self._origin)

    def _open(self) -> Iterator[_Decoded]:
        """(Re)open the file at its beginning and return its frames, in the file's own clock."""
        if self._container is not None:
            self._container.close()
        self.damage = Damage()
        self._container = Container(self._path)
        context = self._container.stream.codec_context
        context.thread_type = "AUTO"
        context.thread_count = THREADS
        context.options = {"err_detect": CHECKS}
        self._fps = self._measured_fps or self._container.rate or FALLBACK_FPS
        self._pixels = FramePixels(self._container.metadata.get("comment", ""))
        return self._decode(from_start=True)

    def _decode(self, from_start: bool) -> Iterator[_Decoded]:
        """Yield frames from the decoder's position on, in the order shown; after a seek, from a key frame on.

        Raises VideoError where it breaks, unless damage is allowed. What precedes the first key frame of a stream that
        was cut out of a longer one cannot be decoded, and is no damage.
        """
        container = self._container
        has_damaged_slice = container.slice_check
        steps = EvenSteps(self._fps, container.tick)
        suspects: set[int | None] = set()
        count = 0
        packets = 0
        time = end = -np.inf
        size = None
        in_step = from_start
        try:
            for packet in self._look_ahead(container.packets()) if from_start else container.packets():
                in_step = in_step and not (packets == 0 and packet.size and not packet.is_keyframe)
                packets += packet.size > 0 or packet.pts is not None
                if packet.is_corrupt or has_damaged_slice(packet):
                    suspects.add(packet.pts)
                try:
                    pictures = packet.decode()
                except DECODER_ERRORS as error:
                    if in_step:
                        self._note(count, time, self._explain(error), frame=True)
                    continue
                for frame in pictures:
                    if not in_step and not frame.key_frame and (not from_start or frame.is_corrupt):
                        continue
                    in_step = True
                    if size not in (None, (frame.width, frame.height)):
                        change = f"the frame size changes from {size[0]}x{size[1]} to {frame.width}x{frame.height}"
                        return self._note(count, time, change)
                    size = (frame.width, frame.height)
                    stamp, length = self._times_of(frame, count)
                    if frame.is_corrupt or frame.pts in suspects:
                        self._note(count, max(time, stamp), "a frame that is flagged as damaged", frame=True)
                    suspects.discard(frame.pts)
                    time = max(time, stamp)  # a stamp that runs backwards is damage: frames come in the order shown
                    end = max(end, time + length)
                    steps.add(time, end)
                    count += 1
                    yield _Decoded(time, length, frame)
        except VideoError:
            raise
        except DECODER_ERRORS as error:
            self._note(count, time, self._explain(error))
        if suspects and in_step:
            self._note(count, time, "a packet that is flagged as damaged", frame=True)
        if count:
            self._check_end(count, packets if from_start else None, end, steps)

    def _look_ahead(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """Yield all packets, after the times of the first ones were held against the declared rate."""
        head: list[av.Packet] = []
        problem = None
        try:
            head.extend(islice(packets, HEAD))
        except DECODER_ERRORS as error:
            problem = error
        self._is_doubtful = self._container.is_rate_doubtful(head)
        yield from head
        if problem is not None:
            raise problem
        yield from packets

    def _times_of(self, frame: av.VideoFrame, count: int) -> tuple[float, float]:
        """Return when a frame, after `count` others, is due in the file's own clock, and how long it lasts."""
        if frame.pts is None or not self._container.is_timed:
            return count / self._fps, 1 / self._fps
        length = float(frame.duration * frame.time_base) if frame.duration else 1 / self._fps
        return float(frame.pts * frame.time_base), length

    def _note(self, count: int, time: float, reason: str, *, frame: bool = False) -> None:
        """Count what is wrong at `time` after `count` frames, a frame or more, or raise VideoError with it."""
        seconds = max(float(time) - self._origin, 0.0)
        if not self._allow_damaged:
            raise damage_error(self._path, count, seconds, reason)
        if frame:
            self.damage.add_frame(seconds)
        else:
            self.damage.remarks.append(f"{reason} (after {seconds:.2f} s)")

    def _explain(self, error: Exception) -> str:
        """Return why decoding broke: a file that is cut short says so better than the decoder does."""
        return find_cut(self._path, checksums=False) or describe_error(error)

    def _check_end(self, count: int, packets: int | None, end: float, steps: EvenSteps) -> None:
        """Hold `count` frames up to `end` against what the container promises, and its end against what it must be.

        packets: how many there were, from the file's beginning on; None after a seek.
        """
        cut = find_cut(self._path, checksums=packets is not None)
        if cut is not None:
            self._note(count, end, cut)
        promised = self._container.promised_frames
        seconds = self._container.promised_seconds
        lacking = max(promised - packets if packets is not None and promised else 0, steps.missing)
        if lacking > 0 and not self._allow_damaged:
            self._note(count, end, f"{lacking} frames are missing that its index or its times promise")
        self.damage.missing += max(lacking, 0)
        if seconds and not lacking and seconds > max(end, end - self._origin) + max(2 / self._fps, 0.02 * seconds):
            self._note(count, end, f"the data ends before the {seconds:.2f} s that the file promises")

    def _seek(self, start: float) -> Iterator[_Decoded]:
        """Decode from a key frame at or before `start`: from an earlier one if that fails, else from the beginning.

        Frames between the place of a seek and its key frame are dropped: they refer to pictures never decoded. Where
        the index points past the target (open groups of pictures, transport streams), an earlier seek is right. What
        does not decode from there may do so from the beginning, which says whether it is damage.
        """
        last = -np.inf
        for margin in (0.0, 2.0, 10.0) if self._container.can_seek else ():
            target = self._origin + max(start - margin, 0.0)
            try:
                self._container.seek(target)
                decoded = self._decode(from_start=False)
                key = next(decoded, None)
                if key is None or key.time > self._origin + start + 1e-9:
                    continue
                for frame in chain([key], decoded):
                    yield frame
                    last = frame.time
                return
            except (*DECODER_ERRORS, VideoError):
                if last > -np.inf:
                    break
        yield from (frame for frame in self._open() if frame.time > last)

    def _read_info(self) -> VideoInfo:
        stream = self._container.stream
        frame = self._first.frame
        height, width = self._pixels.read(frame).shape[:2]
        duration = self._container.promised_seconds
        count = self._container.shown_frames
        if duration and count > 1 and abs(count - duration * self._fps) > 1:
            # of uneven files FFmpeg divides by a time that includes the decoder's delay
            self._fps = self._measured_fps = count / duration
        if self._is_doubtful:
            packets = self._measure()
            if packets is not None:
                self._fps = self._measured_fps = packets.measure_rate(self._fps)
                duration = float(packets.ends.max() - packets.times[0])
                count = len(packets.times)
        duration = duration or self._first.length
        hdr = HDR.get(frame.color_trc, "")
        if hdr:
            warnings.warn(
                f"{self._path}: HDR ({hdr}) is read without tone mapping: pale; make it SDR first", stacklevel=1
            )
        return VideoInfo(
            path=self._path,
            width=width,
            height=height,
            fps=self._fps,
            duration=duration,
            num_frames=count or max(round(duration * self._fps), 1),
            codec=stream.codec_context.codec.canonical_name,
            pix_fmt=frame.format.name,
            rotation=frame.rotation if frame.rotation in (-180, -90, 90, 180) else 0,
            pixel_aspect=float(stream.sample_aspect_ratio or 1),
            start_time=self._origin,
            tick=self._container.tick,
            hdr=hdr,
        )

    def _measure(self) -> PacketTimes | None:
        """Return the times of the whole file's packets; None where there are none."""
        with closing(Container(self._path)) as container:
            packets = container.read_times()
        return packets if len(packets.times) else None
