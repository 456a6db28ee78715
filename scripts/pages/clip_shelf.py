"""Clips of a bank as animated WebP, written into a page: they play wherever it is opened."""

from __future__ import annotations

import base64
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.errors import VidgenError

if TYPE_CHECKING:
    from vidgen.representations.bank import BankRow, FeatureBank

MAX_SIDE = 128  # pixels of the longer side: all that a page has room for
DEFAULT_FPS = 8.0  # where there are no times


class ClipShelf:
    """The clips of a bank at the model's size and times, as far as their files still exist."""

    def __init__(self, bank: FeatureBank) -> None:
        preprocessing = bank.meta.get("preprocessing", {})
        height, width = preprocessing.get("size") or (64, 64)
        scale = min(1.0, MAX_SIDE / max(height, width))
        self.size = max(1, round(height * scale)), max(1, round(width * scale))
        self.fps = preprocessing.get("fps")
        self.is_sliding = preprocessing.get("windows") == "sliding"
        source = bank.meta.get("source")
        self.sources = [source] if isinstance(source, str) else list(source or [])
        self._uris: dict[str, str | None] = {}

    @cached_property
    def records(self) -> dict[str, ClipRecord]:
        """The records by id; those of sources that are gone are left out."""
        records: dict[str, ClipRecord] = {}
        for source in self.sources:
            try:
                records |= {record.id: record for record in find_clips(source)}
            except VidgenError:
                continue
        return records

    def draw(self, row: BankRow) -> str | None:
        """Return a data URI of the frames of a row, or None where they cannot be read any more."""
        if row.id not in self._uris:
            self._uris[row.id] = self._read(row)
        return self._uris[row.id]

    def _read(self, row: BankRow) -> str | None:
        record = self.records.get(row.id.rpartition("@")[0] if self.is_sliding else row.id)
        if record is None:
            return None
        times = np.array(row.times) if row.times else np.zeros(1)
        try:
            clip = read_video(
                record.path,
                start=float(times[0]),
                num_frames=len(times),
                fps=self.fps,
                size=self.size,
                native_fps=record.fps,
                short="keep",
            )
        except VidgenError:
            return None
        gaps = np.diff(times)
        fps = float(1 / np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else DEFAULT_FPS
        return to_uri(clip.frames, min(fps, 60.0))


def to_uri(frames: np.ndarray, fps: float) -> str:
    """Return frames (t, h, w, 3) as an animated WebP in a data URI."""
    with tempfile.TemporaryDirectory() as scratch:
        path = write_video(frames, Path(scratch) / "clip.webp", fps=fps)
        return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
