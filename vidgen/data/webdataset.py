"""Tar archives as WebDataset has them: clips and what is said of them, read where they lie, nothing unpacked.

A clip in an archive has the path `archive.tar/name.mp4`; `open_bytes` opens such paths as it opens files.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vidgen.errors import VideoError

TAR_SUFFIX = ".tar"


@dataclass(frozen=True, kw_only=True)
class TarIndex:
    """Where the files of an archive lie, (offset, size) by name in their order, and what is wrong with it, if anything:
    what came before is good."""

    places: dict[str, tuple[int, int]]
    damage: str | None = None


class Section(io.RawIOBase):
    """A part of a file as a file of its own, which closes with it."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = path.open("rb"), offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray) -> int:
        self._file.seek(self._offset + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def archive_of(path: Path) -> Path | None:
    """The archive that holds `path`; None for a path that is not in one."""
    if TAR_SUFFIX not in str(path).lower() or path.exists():
        return None
    return next((parent for parent in path.parents if is_tar(parent)), None)


def is_tar(path: Path) -> bool:
    return path.suffix.lower() == TAR_SUFFIX and path.is_file()


def read_index(archive: Path) -> TarIndex:
    """The index of an archive, read once as long as the file does not change."""
    stat = archive.stat()
    return _index(archive, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _index(archive: Path, size: int, changed: int) -> TarIndex:
    places: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(archive, "r:") as tar:  # a compressed one has no places to jump to
            for member in tar:
                if not member.isfile():
                    continue
                if member.offset_data + member.size > size:
                    return TarIndex(places=places, damage="it is cut short")
                places[member.name] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        return TarIndex(places=places, damage=" ".join(str(error).split()) or type(error).__name__)
    return TarIndex(places=places)


def open_bytes(path: Path) -> BinaryIO:
    """A file, or a clip in an archive, opened for reading. Raises VideoError for what its archive does not hold."""
    archive = archive_of(path)
    if archive is None:
        return path.open("rb")
    index, name = read_index(archive), path.relative_to(archive).as_posix()
    if name in index.places:
        return io.BufferedReader(Section(archive, *index.places[name]))
    if index.damage is not None:
        count = len(index.places)
        raise VideoError(f"{path}: the archive is damaged after {count} files: {index.damage}; copy it again")
    raise VideoError(f"{path}: no such file in this archive; check the name")


def list_samples(archive: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(key, {suffix: name}) of every sample: files named alike up to the first dot, as WebDataset groups them.

    A damaged archive gives what it still has, and last a sample of no suffix whose file is not there: opening it says
    what is wrong.
    """
    index = read_index(archive)
    samples: dict[str, dict[str, str]] = {}
    for name in index.places:
        path = PurePosixPath(name)
        stem, dot, suffix = path.name.partition(".")
        if stem and not path.name.startswith("._"):
            samples.setdefault((path.parent / stem).as_posix(), {})[dot + suffix.lower()] = name
    yield from samples.items()
    if index.damage is not None:
        yield "the rest", {"": "the rest"}
