"""Clips of a bank as pictures that play by themselves wherever a page is opened: WebP, written into the page."""

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

LARGEST = 128  # pixels of the longer side: all that a page has room for
PACE = 8.0  # frames a second, where times do not say


class ClipShelf:
    """The clips that a bank was made from, as the model saw them, as far as they are still there."""

    def __init__(self, bank: FeatureBank) -> None:
        seen = bank.meta.get("preprocessing", {})
        height, width = seen.get("size") or (64, 64)
        scale = min(1.0, LARGEST / max(height, width))
        self.size = max(1, round(height * scale)), max(1, round(width * scale))
        self.fps, self.sliding = seen.get("fps"), seen.get("windows") == "sliding"
        source = bank.meta.get("source")
        self.sources = [source] if isinstance(source, str) else list(source or [])
        self._drawn: dict[str, str | None] = {}

    @cached_property
    def records(self) -> dict[str, ClipRecord]:
        """The records by id; those of sources that are gone are left out."""
        found: dict[str, ClipRecord] = {}
        for source in self.sources:
            try:
                found |= {record.id: record for record in find_clips(source)}
            except VidgenError:
                continue
        return found

    def draw(self, row: BankRow) -> str | None:
        """A data URI of the frames that made a row, or None where they cannot be read any more."""
        if row.id not in self._drawn:
            self._drawn[row.id] = self._read(row)
        return self._drawn[row.id]

    def _read(self, row: BankRow) -> str | None:
        record = self.records.get(row.id.rpartition("@")[0] if self.sliding else row.id)
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
        pace = float(1 / np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else PACE
        return to_uri(clip.frames, min(pace, 60.0))


def to_uri(frames: np.ndarray, fps: float) -> str:
    """Frames (t, h, w, 3) as an animated WebP in a data URI."""
    with tempfile.TemporaryDirectory() as scratch:
        path = write_video(frames, Path(scratch) / "clip.webp", fps=fps)
        return f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
