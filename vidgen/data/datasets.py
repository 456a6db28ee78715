"""Clips as a PyTorch data set: windows of frames, reproducible, with what was left out said aloud."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from vidgen.data.frames import Fit, check_size, to_tensor
from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.data.reading import read_video
from vidgen.data.validation import ClipMeasurement, Decode, check_length, measure_clip, reason_of
from vidgen.errors import VideoError, VidgenError

WindowPlacement = Literal["head", "centre", "random"]


@dataclass(frozen=True, kw_only=True)
class DroppedClip:
    """A clip that was left out, and why."""

    path: Path
    reason: str


class VideoDataset(Dataset):
    """Windows of clips; item i is a dict, ready for PyTorch's default collation:

        video    (3, num_frames, height, width) float32 in [-1, 1]
        times    (num_frames,) float64, seconds after the file's first frame
        caption, label, id    strings, "" where there is none

    source: anything `find_clips` takes, or a list of its records.
    num_frames, size, fps, fit: the window; fps None takes the file's own frames. See `read_video`.
    windows: where it lies: at the "head", in the "centre", or "random", a function of (seed, epoch, index) alone.
    short: clips with too few frames are left out ("drop"), or hold their last frame ("repeat").
    decode: what is checked now: "first" opens every file and counts its frames, "full" decodes them all.
    allow_damaged: use what there is of damaged files, of which one warning tells.

    Files that cannot be read are left out, never replaced: `dropped` lists them, one warning names them, `records`
    are the rest. Raises VidgenError if nothing is left, VideoError from an item whose file turns out damaged later.
    """

    def __init__(
        self,
        source: str | Path | Sequence[ClipRecord],
        *,
        num_frames: int,
        size: int | tuple[int, int],
        fps: float | None = None,
        fit: Fit = "crop",
        windows: WindowPlacement = "head",
        short: Literal["drop", "repeat"] = "drop",
        decode: Decode = "first",
        allow_damaged: bool = False,
        seed: int = 0,
    ):
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {num_frames}")
        if windows not in ("head", "centre", "random"):
            raise ValueError(f"windows must be head, centre or random, got {windows!r}")
        if short not in ("drop", "repeat"):
            raise ValueError(f"short must be drop or repeat, got {short!r}")
        self.num_frames = num_frames
        self.size = check_size(size)
        self.fps = fps
        self.fit = fit
        self.windows = windows
        self.short = short
        self.seed = seed
        self.allow_damaged = allow_damaged
        # in shared memory, so that the loader's workers see set_epoch
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        records = find_clips(source) if isinstance(source, str | Path) else list(source)
        self.records, self._measurements, self.dropped = self._check(records, decode)
        if not self.records:
            reasons = "; ".join(f"{drop.path.name}: {drop.reason}" for drop in self.dropped[:3]) or "the list is empty"
            raise VidgenError(f"none of {len(records)} clips can be used ({reasons}); see `vidgen data inspect`")
        if self.dropped:
            names = "; ".join(f"{drop.path}: {drop.reason}" for drop in self.dropped)
            warnings.warn(f"{len(self.dropped)} of {len(records)} clips left out: {names}", stacklevel=2)
        checked = zip(self.records, self._measurements, strict=True)
        if damaged := [f"{record.path}: {clip.damage}" for record, clip in checked if clip.damage]:
            warnings.warn(f"{len(damaged)} of {len(records)} clips are damaged: {'; '.join(damaged)}", stacklevel=2)

    @property
    def classes(self) -> list[str]:
        """The labels that occur, sorted."""
        return sorted({record.label for record in self.records if record.label is not None})

    def set_epoch(self, epoch: int) -> None:
        """Move the random windows; call before each pass. Running workers follow."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        record = self.records[index]
        index = index % len(self.records)
        clip = read_video(
            record.path,
            start=self._start(index),
            duration=self._remaining(index),
            num_frames=self.num_frames,
            fps=self.fps,
            size=self.size,
            fit=self.fit,
            native_fps=record.fps,
            short="repeat" if self.short == "repeat" else "error",
            allow_damaged=self.allow_damaged,
        )
        return {
            "video": to_tensor(clip.frames),
            "times": torch.from_numpy(clip.times),
            "caption": record.caption or "",
            "label": record.label or "",
            "id": record.id,
        }

    def _start(self, index: int) -> float:
        """Seconds at which the window of clip `index` starts: the time of one of its frames."""
        measurement = self._measurements[index]
        starts = max(measurement.starts(self.num_frames, self.fps), 1)
        if self.windows == "random":
            first = int(np.random.default_rng((self.seed, int(self._epoch), index)).integers(starts))
        else:
            first = 0 if self.windows == "head" else (starts - 1) // 2
        return float(measurement.timeline.times[first])

    def _remaining(self, index: int) -> float | None:
        """Seconds from the window's start to the end of the record's part of the file; None: to the file's end."""
        record = self.records[index]
        return None if record.duration is None else record.start + record.duration - self._start(index)

    def _check(
        self, records: list[ClipRecord], decode: Decode
    ) -> tuple[list[ClipRecord], list[ClipMeasurement], list[DroppedClip]]:
        def check(record: ClipRecord) -> ClipMeasurement | DroppedClip:
            try:
                measurement = measure_clip(record, decode, self.fps, allow_damaged=self.allow_damaged)
                if self.short == "drop":
                    check_length(record, measurement, self.num_frames, self.fps)
            except VideoError as error:
                return DroppedClip(path=record.path, reason=reason_of(error, record))
            return measurement

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            results = list(zip(records, pool.map(check, records), strict=True))
        usable = [(record, result) for record, result in results if isinstance(result, ClipMeasurement)]
        dropped = [result for _, result in results if isinstance(result, DroppedClip)]
        return [record for record, _ in usable], [measurement for _, measurement in usable], dropped
