"""WebDataset archives (.tar): clips with their captions and labels, read in place, nothing unpacked.

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
    """The (offset, size) of the files of an archive by name, in their order; `damage` says what is wrong after them, if
    anything."""

    files: dict[str, tuple[int, int]]
    damage: str | None = None


class Section(io.RawIOBase):
    """A part of a file as a file of its own, which closes with it."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._file = path.open("rb")
        self._offset = offset
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in the part."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the part, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"seek to {base + offset}, before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray) -> int:
        """Read into `buffer`, and return how many bytes were read."""
        self._file.seek(self._offset + self._position)
        data = self._file.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def archive_of(path: Path) -> Path | None:
    """Return the archive that holds `path`; None for a path that is not in one."""
    if TAR_SUFFIX not in str(path).lower() or path.exists():
        return None
    return next((parent for parent in path.parents if is_tar(parent)), None)


def is_tar(path: Path) -> bool:
    """Return whether a path is an archive."""
    return path.suffix.lower() == TAR_SUFFIX and path.is_file()


def read_index(archive: Path) -> TarIndex:
    """Return the index of an archive, read once as long as the file does not change."""
    stat = archive.stat()
    return _index(archive, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _index(archive: Path, size: int, changed: int) -> TarIndex:
    files: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(archive, "r:") as tar:  # a compressed one has no offsets to jump to
            for member in tar:
                if not member.isfile():
                    continue
                if member.offset_data + member.size > size:
                    return TarIndex(files=files, damage="it is cut short")
                # as pathlib writes it below the archive: `tar cf x.tar .` begins its names with ./
                name = PurePosixPath(member.name.lstrip("/")).as_posix()
                files[name] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        return TarIndex(files=files, damage=" ".join(str(error).split()) or type(error).__name__)
    return TarIndex(files=files)


def open_bytes(path: Path) -> BinaryIO:
    """Open a file, or a clip in an archive, for reading. Raises VideoError for what its archive does not hold."""
    archive = archive_of(path)
    if archive is None:
        return path.open("rb")
    index = read_index(archive)
    name = path.relative_to(archive).as_posix()
    if name in index.files:
        return io.BufferedReader(Section(archive, *index.files[name]))
    if index.damage is not None:
        count = len(index.files)
        raise VideoError(f"{path}: the archive is damaged after {count} files: {index.damage}; copy it again")
    raise VideoError(f"{path}: no such file in this archive; check the name")


def list_samples(archive: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (key, {suffix: name}) of every sample: files named alike up to the first dot, as WebDataset groups them.

    A damaged archive gives what it still has, and last a sample of no suffix whose file is not there: opening it says
    what is wrong.
    """
    index = read_index(archive)
    samples: dict[str, dict[str, str]] = {}
    for name in index.files:
        path = PurePosixPath(name)
        stem, dot, suffix = path.name.partition(".")
        if stem and not path.name.startswith("._"):
            samples.setdefault((path.parent / stem).as_posix(), {})[dot + suffix.lower()] = name
    yield from samples.items()
    if index.damage is not None:
        yield "the rest", {"": "the rest"}
