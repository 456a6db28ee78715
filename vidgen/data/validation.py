"""Validation of a data set before it is used: what is kept, what is dropped and why, and what is unusual."""

import gc
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64

from vidgen.data.damage import Damage
from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.data.reading import clock_slack, open_source
from vidgen.data.sources import Source, Timeline, VideoInfo
from vidgen.errors import VideoError

Decode = Literal["full", "first"]
DEEP = re.compile("10|12|14|16|I;")  # formats of pixels with more than 8 bits
SHOWN_EACH = 1000  # clips, after as many; to show a step takes longer than to look at a clip that others share


@dataclass(frozen=True, kw_only=True)
class ClipMeasurement:
    """What one clip holds: facts, the times of its frames within the record's window, and what is wrong with it.

    is_steady: every step from frame to frame is as long as any other, and so is every one of any part.
    """

    info: VideoInfo
    timeline: Timeline
    damage: Damage = field(default_factory=Damage)
    is_steady: bool = False

    def starts(self, num_frames: int, fps: float | None) -> int:
        """Return how many of the frames can start a window of `num_frames` frames at `fps` (None: the file's own
        frames)."""
        times = self.timeline.times
        if fps is None:
            return max(len(times) - num_frames + 1, 0)
        if num_frames == 1:
            return len(times)
        latest = self.timeline.end - clock_slack(self.info) - (num_frames - 1) / fps  # as `read_video` counts
        return int(np.searchsorted(times, latest, side="left"))

    def available(self, fps: float | None) -> int:
        """Return frames that a window from the first frame on can have at `fps`."""
        if fps is None:
            return len(self.timeline.times)
        count = max(round((self.timeline.end - self.timeline.times[0]) * fps), 1)
        while count > 1 and not self.starts(count, fps):
            count -= 1
        return count + bool(self.starts(count + 1, fps))


def measure_clip(
    record: ClipRecord, decode: Decode = "full", fps: float | None = None, *, allow_damaged: bool = False
) -> ClipMeasurement:
    """Open a clip, and find out what its window holds.

    decode "full" decodes every frame, so damage anywhere is found; "first" decodes one frame and reads the times off
    the packets: quick, exact for sound files, and finds files that are cut. fps: what a folder of frames without a rate
    of its own runs at. allow_damaged: count damage rather than refuse the clip.
    Raises VideoError with the reason if the clip cannot be used.
    """
    if decode not in ("full", "first"):
        raise ValueError(f"decode must be full or first, got {decode!r}")
    with open_source(record.path, record.fps or fps, allow_damaged=allow_damaged) as source:
        timeline = _decode_all(source, record.start, _end(record)) if decode == "full" else source.timeline()
    whole = ClipMeasurement(
        info=source.info, timeline=timeline, damage=source.damage, is_steady=_is_steady(timeline.times)
    )
    return _cut(record, whole)


def _cut(record: ClipRecord, whole: ClipMeasurement) -> ClipMeasurement:
    """Return what the part of a file that a record names holds, of what more of it does."""
    slack = clock_slack(whole.info)
    times = whole.timeline.times
    end = _end(record)
    first = times.searchsorted(record.start - slack)
    stop = times.searchsorted(end - slack)
    if first >= stop:
        raise VideoError(f"{record.path}: no frame from {record.start:g} s on; it ends at {whole.timeline.end:.2f} s")
    window = Timeline(times=times[first:stop], end=min(whole.timeline.end, end))
    return ClipMeasurement(info=whole.info, timeline=window, damage=whole.damage, is_steady=whole.is_steady)


def _end(record: ClipRecord) -> float:
    return inf if record.duration is None else record.start + record.duration


def _file_of(record: ClipRecord) -> tuple[str, float | None]:
    return str(record.path), record.fps  # to compare paths takes ten times as long


class SharedFiles:
    """Measures clips; a file that several records are parts of is opened once, if all of it is sound."""

    def __init__(self, records: Sequence[ClipRecord], decode: Decode, fps: float | None, allow_damaged: bool) -> None:
        counts = Counter(map(_file_of, records))
        self._shared = {key for key, count in counts.items() if count > 1}
        self._whole: dict[tuple[str, float | None], ClipMeasurement | None] = {}
        self._settings = {"decode": decode, "fps": fps, "allow_damaged": allow_damaged}

    def measure(self, record: ClipRecord) -> ClipMeasurement:
        """Return what `measure_clip` does, and raise as it does."""
        key = _file_of(record)
        if key in self._shared and key not in self._whole:
            try:
                whole = measure_clip(replace(record, start=0.0, duration=None), **self._settings)
                self._whole[key] = None if whole.damage else whole
            except VideoError:
                self._whole[key] = None  # another part of it may be sound
        whole = self._whole.get(key)
        return measure_clip(record, **self._settings) if whole is None else _cut(record, whole)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Let the garbage collector leave old objects alone: rows hold no cycles, and walking a million takes seconds."""
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], 10**6)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@_few_collections()
def validate_source(
    source: str | Path,
    *,
    num_frames: int | None = None,
    fps: float | None = None,
    decode: Decode = "full",
    allow_damaged: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Return what a data set at `source` (see `find_clips`) would keep for windows of `num_frames` frames at `fps`.

    Returns plain data for JSON: "kept" (a count), "dropped" [{"path", "reason"}], "frames" and "hours" (of what is
    kept), and "clips", a row for each: path, id, caption, label, width, height, fps (measured), frames, seconds, codec,
    pix_fmt, rotation, vfr, damage (empty, or what is wrong), warnings. progress(done, total) is called after a clip.
    decode, allow_damaged: see `measure_clip`; damaged clips are dropped unless they are allowed.
    Raises VidgenError if there is nothing at `source`.
    """
    records = find_clips(source)
    files = SharedFiles(records, decode, fps, allow_damaged)
    rows = []
    dropped = []
    for index, record in enumerate(records):
        try:
            measurement = files.measure(record)
            check_length(record, measurement, num_frames, fps)
            rows.append(_row(record, measurement))
        except VideoError as error:
            dropped.append({"path": str(record.path), "reason": reason_of(error, record)})
        if progress is not None and (index < SHOWN_EACH or (index + 1) % SHOWN_EACH == 0):
            progress(index + 1, len(records))
    return {
        "source": str(source),
        "kept": len(rows),
        "dropped": dropped,
        "frames": sum(row["frames"] for row in rows),
        "hours": sum(row["seconds"] for row in rows) / 3600,
        "clips": rows,
    }


def check_length(record: ClipRecord, measurement: ClipMeasurement, num_frames: int | None, fps: float | None) -> None:
    """Raise VideoError if the clip has no window of `num_frames` frames at `fps`."""
    if num_frames is not None and not measurement.starts(num_frames, fps):
        rate = f" at {fps:g} fps" if fps else ""
        raise VideoError(f"{record.path}: {measurement.available(fps)} frames{rate}, {num_frames} needed")


def reason_of(error: VideoError, record: ClipRecord) -> str:
    """Return the error's line without the path in front."""
    return str(error).removeprefix(f"{record.path}: ")


def _decode_all(source: Source, start: float, end: float) -> Timeline:
    """Return the times of all frames up to `end`, every one decoded."""
    times: list[float] = []
    stop = 0.0
    for frame in source.frames(start):
        if frame.time >= end:
            break
        times.append(frame.time)
        stop = frame.time + frame.length
    return Timeline(times=np.array(times, np.float64), end=stop)


def _row(record: ClipRecord, measurement: ClipMeasurement) -> dict:
    info = measurement.info
    times = measurement.timeline.times
    begin = float(times[0])
    span = float(times[-1]) - begin
    vfr = not measurement.is_steady and _is_variable(times)
    return {
        "path": str(record.path),
        "id": record.id,
        "caption": record.caption,
        "label": record.label,
        "width": info.width,
        "height": info.height,
        "fps": round((len(times) - 1) / span, 3) if span > 0 else info.fps,
        "frames": len(times),
        "seconds": round(measurement.timeline.end - begin, 4),
        "codec": info.codec,
        "pix_fmt": info.pix_fmt,
        "rotation": info.rotation,
        "vfr": vfr,
        "damage": str(measurement.damage),
        "warnings": _warnings(measurement, vfr),
    }


def _is_steady(times: Float64[np.ndarray, " t"]) -> bool:
    gaps = np.diff(times)
    return not len(gaps) or bool(np.ptp(gaps) <= _tolerance(gaps.min()))


def _is_variable(times: Float64[np.ndarray, " t"]) -> bool:
    gaps = np.diff(times)
    usual = np.sort(gaps)[len(gaps) // 2] if len(gaps) else 0.0
    return bool(len(gaps) and np.abs(gaps - usual).max() > _tolerance(usual))


def _tolerance(step: float) -> float:
    """Return how much steps may differ, in seconds: what clocks of containers round, or a tenth of the usual one."""
    return max(2.2e-3, 0.1 * step)


def _warnings(measurement: ClipMeasurement, vfr: bool) -> list[str]:
    info = measurement.info
    notes = []
    if measurement.damage:
        notes.append(f"damaged: {measurement.damage}")
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
