"""Validation of a data set before it is used: what is kept, what is dropped and why, and what is unusual."""

import gc
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from vidgen.data.damage import Damage
from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.data.reading import clock_slack, open_source
from vidgen.data.sources import Source, Timeline, VideoInfo, warnings_of
from vidgen.errors import VideoError

Decode = Literal["full", "first"]
SHOWN_EACH = 1000  # clips, after as many; to show a step takes longer than to look at a clip that others share


@dataclass(frozen=True, kw_only=True)
class FileMeasurement:
    """What a file holds, or as much of it as was looked at: facts, the times of its frames, and what is wrong with it.

    What all of its parts have in common is worked out once.
    """

    info: VideoInfo
    timeline: Timeline
    damage: Damage

    def cut(self, record: ClipRecord) -> "ClipMeasurement":
        """Return what the part that a record names holds. Raises VideoError if that is no frame."""
        times, last = self.timeline
        start = record.start
        end = inf if record.duration is None else start + record.duration
        numbers = memoryview(times)  # a search for one of them takes a third of NumPy's time
        first = bisect_left(numbers, start - self.slack)
        stop = bisect_left(numbers, end - self.slack)
        if first >= stop:
            raise VideoError(f"{record.path}: no frame from {start:g} s on; it ends at {last:.2f} s")
        return ClipMeasurement(self, first, stop, end if end < last else last)

    @cached_property
    def slack(self) -> float:
        """How late a frame may come, in seconds; see `clock_slack`."""
        return clock_slack(self.info)

    @cached_property
    def is_steady(self) -> bool:
        """Whether each step from frame to frame is as long as any other, and so is every one of any part."""
        return _is_steady(self.timeline.times)

    @cached_property
    def facts(self) -> tuple[dict, dict]:
        """Columns of the report as they are for every part whose frame rate is even, and for every one where it is not;
        None stands for what each part has of its own."""
        info = self.info
        own = dict.fromkeys(("path", "id", "caption", "label"))
        size = {"width": info.width, "height": info.height, "fps": info.fps, "frames": None, "seconds": None}
        coding = {"codec": info.codec, "pix_fmt": info.pix_fmt, "rotation": info.rotation}
        common = own | size | coding | {"vfr": False, "damage": str(self.damage)}
        return (
            common | {"warnings": warnings_of(info, self.damage, False)},
            common | {"vfr": True, "warnings": warnings_of(info, self.damage, True)},
        )


class ClipMeasurement(NamedTuple):
    """What one clip holds: the frames of a file from `first` to before `stop`, the last one until `end` seconds."""

    file: FileMeasurement
    first: int
    stop: int
    end: float

    @property
    def timeline(self) -> Timeline:
        """The times of the frames."""
        return Timeline(self.file.timeline.times[self.first : self.stop], self.end)

    @property
    def num_frames(self) -> int:
        """How many frames there are."""
        return self.stop - self.first

    @property
    def seconds(self) -> float:
        """How long they last, to four digits."""
        return round(self.end - self.file.timeline.times.item(self.first), 4)

    @property
    def info(self) -> VideoInfo:
        """What the file says about itself."""
        return self.file.info

    @property
    def damage(self) -> Damage:
        """What is wrong with the file."""
        return self.file.damage

    def starts(self, num_frames: int, fps: float | None) -> int:
        """Return how many of the frames can start a window of `num_frames` frames at `fps` (None: the file's own
        frames)."""
        if fps is None:
            return max(self.num_frames - num_frames + 1, 0)
        if num_frames == 1:
            return self.num_frames
        latest = self.end - self.file.slack - (num_frames - 1) / fps  # as `read_video` counts
        return bisect_left(memoryview(self.file.timeline.times), latest, self.first, self.stop) - self.first

    def available(self, fps: float | None) -> int:
        """Return frames that a window from the first frame on can have at `fps`."""
        if fps is None:
            return self.num_frames
        count = max(round((self.end - self.file.timeline.times[self.first]) * fps), 1)
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
    return _measure_file(record, decode, fps, allow_damaged).cut(record)


def _measure_file(record: ClipRecord, decode: Decode, fps: float | None, allow_damaged: bool) -> FileMeasurement:
    if decode not in ("full", "first"):
        raise ValueError(f"decode must be full or first, got {decode!r}")
    with open_source(record.path, record.fps or fps, allow_damaged=allow_damaged) as source:
        timeline = _decode_all(source, record.start, _end(record)) if decode == "full" else source.timeline()
    return FileMeasurement(info=source.info, timeline=timeline, damage=source.damage)


def _end(record: ClipRecord) -> float:
    return inf if record.duration is None else record.start + record.duration


def _file_of(record: ClipRecord) -> tuple[str, float | None]:
    return str(record.path), record.fps  # to compare paths takes ten times as long


class SharedFiles:
    """Measures clips; a file that several records are parts of is opened once, if all of it is sound."""

    def __init__(self, records: Sequence[ClipRecord], decode: Decode, fps: float | None, allow_damaged: bool) -> None:
        counts = Counter(map(_file_of, records))
        self._shared = {key for key, count in counts.items() if count > 1}
        self._files: dict[tuple[str, float | None], FileMeasurement | None] = {}
        self._settings = (decode, fps, allow_damaged)

    def measure(self, record: ClipRecord) -> ClipMeasurement:
        """Return what `measure_clip` does, and raise as it does."""
        key = _file_of(record)
        file = self._files.get(key)
        if file is None and key in self._shared and key not in self._files:
            file = self._files[key] = self._measure_whole(replace(record, start=0.0, duration=None))
        return (file or _measure_file(record, *self._settings)).cut(record)

    def _measure_whole(self, record: ClipRecord) -> FileMeasurement | None:
        try:
            file = _measure_file(record, *self._settings)
            file.cut(record)
        except VideoError:
            return None  # another part of it may be sound
        return None if file.damage else file


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
    max_rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Return what a data set at `source` (see `find_clips`) would keep for windows of `num_frames` frames at `fps`.

    Returns plain data for JSON: "kept" (a count), "dropped" [{"path", "reason"}], "frames" and "hours" (of what is
    kept), and "clips", a row for each: path, id, caption, label, width, height, fps (measured), frames, seconds, codec,
    pix_fmt, rotation, vfr, damage (empty, or what is wrong), warnings. progress(done, total) is called after a clip.
    decode, allow_damaged: see `measure_clip`; damaged clips are dropped unless they are allowed. max_rows: list so many
    of "clips" and of "dropped" at most, and add "total", a count of all.
    Raises VidgenError if there is nothing at `source`.
    """
    records = find_clips(source)
    files = SharedFiles(records, decode, fps, allow_damaged)
    most = len(records) if max_rows is None else max_rows
    rows: list[dict] = []
    dropped: list[dict] = []
    frames: list[int] = []
    seconds: list[float] = []
    for index, record in enumerate(records):
        try:
            measurement = files.measure(record)
            check_length(record, measurement, num_frames, fps)
            frames.append(measurement.num_frames)
            seconds.append(measurement.seconds)
            if len(rows) < most:
                rows.append(_row(record, measurement))
        except VideoError as error:
            if len(dropped) < most:
                dropped.append({"path": str(record.path), "reason": reason_of(error, record)})
        if progress is not None and (index < SHOWN_EACH or (index + 1) % SHOWN_EACH == 0):
            progress(index + 1, len(records))
    totals = {"frames": sum(frames), "hours": sum(seconds) / 3600, "clips": rows}
    report = {"source": str(source), "kept": len(seconds), "dropped": dropped, **totals}
    return report if max_rows is None else report | {"total": len(records)}


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
    file = measurement.file
    times = measurement.timeline.times
    span = times.item(-1) - times.item(0)
    facts = file.facts[not file.is_steady and _is_variable(times)]
    row = facts.copy()
    row["path"] = str(record.path)
    row["id"] = record.id
    row["caption"] = record.caption
    row["label"] = record.label
    if span > 0:
        row["fps"] = round((len(times) - 1) / span, 3)
    row["frames"] = measurement.num_frames
    row["seconds"] = measurement.seconds
    row["warnings"] = facts["warnings"].copy()
    return row


def _is_steady(times: Float64[np.ndarray, " t"]) -> bool:
    gaps = np.diff(times)
    return not len(gaps) or bool(np.ptp(gaps) <= _tolerance(gaps.min()))


def _is_variable(times: Float64[np.ndarray, " t"]) -> bool:
    gaps = np.sort(times[1:] - times[:-1]).tolist()
    usual = gaps[len(gaps) // 2] if gaps else 0.0
    return bool(gaps) and max(usual - gaps[0], gaps[-1] - usual) > _tolerance(usual)


def _tolerance(step: float) -> float:
    """Return how much steps may differ, in seconds: what clocks of containers round, or a tenth of the usual one."""
    return max(2.2e-3, 0.1 * step)
