"""Check files against their published SHA-256, before anything is read of them.

Published is what a `*.sha256` file beside them says, what `metadata.sha256` of a checkpoint's index says (hex digits by
name of file), and in the hub's cache the name of a large file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

from vidgen.errors import VidgenError
from vidgen.files.bounded_files import parse_json, read_text

DIGITS = "[0-9a-fA-F]{64}"
# As `sha256sum` writes it, `name` left out where the sums file is called for it; and as BSD's and OpenSSL's tools do.
LINES = (
    re.compile(rf"(?P<sum>{DIGITS})(?:[ \t]+\*?(?P<name>\S.*))?"),
    re.compile(rf"SHA2?-?256 ?\((?P<name>.+)\) ?= ?(?P<sum>{DIGITS})"),
)
BLOCK = 2**22
# By file: size, time of change, sum. A file is read for it once a process.
_sums: dict[Path, tuple[int, int, str]] = {}


def sums_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (name of file, sum) of every line of a sums file. Raises VidgenError for a line that is none."""
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError):
        raise VidgenError(f"{path} cannot be read; put it right, or take it away") from None
    for line in filter(None, map(str.strip, lines)):
        match = next((m for m in (form.fullmatch(line) for form in LINES) if m), None)
        if match is None and not line.startswith("#"):
            raise VidgenError(f"{path}: {line[:40]!r} is no SHA-256 and file name; put it right, or take it away")
        if match:
            yield PurePath(match["name"] or path.stem).name, match["sum"].lower()


def sums_of_index(path: Path) -> Iterator[tuple[str, str]]:
    """Yield those in a checkpoint's index; a damaged index is for its reader to name."""
    try:
        metadata = parse_json(read_text(path))["metadata"]
        sums = metadata["sha256"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    for name, value in sums:
        if isinstance(value, str) and re.fullmatch(DIGITS, value):
            yield name, value.lower()


def published_sums(folder: Path) -> dict[str, tuple[str, Path]]:
    """Return by name of file its published sum, and the file that says it."""
    sums = {}
    for pattern, read in (("*.index.json", sums_of_index), ("*.sha256", sums_of)):
        for path in sorted(folder.glob(pattern)):
            sums |= {name: (value, path) for name, value in read(path)}
    return sums


def sum_of_blob(file: Path) -> str | None:
    """Return the sum of a file in the hub's cache, where large ones are links to a file that is named for its sum."""
    if not file.is_symlink():
        return None
    blob = file.resolve()
    return blob.name if blob.parent.name == "blobs" and re.fullmatch(DIGITS, blob.name) else None


def sum_file(file: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits; one that has not changed since is not read again."""
    real = file.resolve()
    stat = file.stat()
    stamp = (stat.st_size, stat.st_mtime_ns)
    if _sums.get(real, ())[:2] != stamp:
        digest = hashlib.sha256()
        block = memoryview(bytearray(BLOCK))
        with open(real, "rb", buffering=0) as source:
            while count := source.readinto(block):
                digest.update(block[:count])
        _sums[real] = (*stamp, digest.hexdigest())
    return _sums[real][2]


def check_sums(files: Iterable[Path]) -> None:
    """Raise VidgenError for a file whose SHA-256 is not the published one; missing files, and those without, pass.

    Several are read at once, as many as there are cores.
    """
    folders: dict[Path, dict[str, tuple[str, Path]]] = {}
    checks: list[tuple[Path, str, str]] = []
    for file in files:
        if not file.is_file():
            continue
        if file.parent not in folders:
            folders[file.parent] = published_sums(file.parent)
        published = folders[file.parent].get(file.name)
        if published is not None:
            checks.append((file, published[0], str(published[1])))
        elif blob := sum_of_blob(file):
            checks.append((file, blob, "its name in the hub's cache"))
    if not checks:
        return
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        sums = pool.map(sum_file, [file for file, _, _ in checks])
        for (file, value, where), actual in zip(checks, sums, strict=True):
            if actual != value:
                raise VidgenError(
                    f"{file} is not what was published: its SHA-256 is {actual[:16]}..., and {value[:16]}... by "
                    f"{where}; delete it and fetch it again"
                )
