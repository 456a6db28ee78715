"""What tells that a clip is not what it was: the size and time of its file, and its contents where these differ."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vidgen.checkpoints.hashing import json_hash
from vidgen.data.manifests import ClipRecord
from vidgen.data.webdataset import archive_of, open_bytes
from vidgen.errors import VideoError

# Larger files have no hash: reading them would take as long as encoding a window of them, and a time tells enough.
HASHED_BYTES = 2**24


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """A clip's file as it was: its bytes, when it was last changed (ns), and the SHA-256 of its contents, if small."""

    size: int
    time: int
    hash: str

    @classmethod
    def of(cls, path: Path) -> Fingerprint:
        """Return the fingerprint of a file, folder of frames or clip in an archive, all zero where there is none."""
        size, time = _stamp(path)
        return cls(size=size, time=time, hash=_hash(path, size, time))

    def fits(self, path: Path) -> bool:
        """Return whether `path` holds the same: by size and time alone where these are; True where it is gone."""
        size, time = _stamp(path)
        if time == 0 or (size, time) == (self.size, self.time):
            return True
        return self.hash != "" and self.hash == _hash(path, size, time)


def describe_source(record: ClipRecord, *facts: Any) -> dict[str, Any]:
    """Return, as plain data, what is kept of a record so that `is_current` can tell whether it is still the same.

    facts: plain data beside the file and the part of it that the record names, such as its caption.
    """
    return {**asdict(Fingerprint.of(record.path)), "row": _row_hash(record, facts)}


def is_current(description: dict[str, Any], record: ClipRecord, *facts: Any) -> bool:
    """Return whether a clip is what `describe_source` described, with the same facts. False for no description."""
    try:
        before = Fingerprint(**{name: description[name] for name in ("size", "time", "hash")})
        return description["row"] == _row_hash(record, facts) and before.fits(record.path)
    except KeyError:
        return False


def _row_hash(record: ClipRecord, facts: tuple) -> str:
    return json_hash([record.start, record.duration, record.fps, *facts])[:16]


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(file for file in path.iterdir() if file.is_file())
    else:
        yield archive_of(path) or path


def _stamp(path: Path) -> tuple[int, int]:
    """Return the bytes of a clip's files and the last change of any, of contents or place: copies keep the former."""
    try:
        stats = [os.stat(file) for file in _files(path)]
    except OSError:
        return 0, 0
    return sum(s.st_size for s in stats), max((max(s.st_mtime_ns, s.st_ctime_ns) for s in stats), default=0)


@lru_cache(maxsize=1024)
def _hash(path: Path, size: int, time: int) -> str:
    """Return the SHA-256 of a clip's contents, "" for one over 16 MB; size and time are of the cache's key alone."""
    digest = hashlib.sha256()
    read = 0
    try:
        for file in _files(path) if path.is_dir() else [path]:
            with open_bytes(file) as opened:
                data = opened.read(HASHED_BYTES + 1 - read)
            read += len(data)
            if read > HASHED_BYTES:
                return ""
            digest.update(f"{file.name} {len(data)} ".encode("utf-8", "surrogateescape") if path.is_dir() else b"")
            digest.update(data)
    except (OSError, VideoError):
        return ""
    return digest.hexdigest()
