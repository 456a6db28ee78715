"""Files against the SHA-256 that is known of them, before anything is read of them.

It is known from a `*.sha256` file beside them, from `metadata.sha256` of a checkpoint's index (hex digits by name of
file), and in the hub's cache, where large files are stored under theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

from vidgen.errors import VidgenError

DIGITS = "[0-9a-fA-F]{64}"
# As `sha256sum` writes it, `name` left out where the sums file is called for it; and as BSD's and OpenSSL's tools do.
LINES = (
    re.compile(rf"(?P<sum>{DIGITS})(?:[ \t]+\*?(?P<name>\S.*))?"),
    re.compile(rf"SHA2?-?256 ?\((?P<name>.+)\) ?= ?(?P<sum>{DIGITS})"),
)
BLOCK = 2**22
# What was found, by file: size, time of change, sum. A file is read for it once a process.
_found: dict[Path, tuple[int, int, str]] = {}


def sums_of(path: Path) -> Iterator[tuple[str, str]]:
    """(name of file, sum) of every line of a sums file. Raises VidgenError for a line that is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise VidgenError(f"{path} cannot be read; put it right, or take it away") from None
    for line in filter(None, map(str.strip, lines)):
        match = next((m for m in (form.fullmatch(line) for form in LINES) if m), None)
        if match is None and not line.startswith("#"):
            raise VidgenError(f"{path}: {line[:40]!r} is no SHA-256 and file name; put it right, or take it away")
        if match:
            yield PurePath(match["name"] or path.stem).name, match["sum"].lower()


def sums_of_index(path: Path) -> Iterator[tuple[str, str]]:
    """Those in a checkpoint's index; a damaged index is for its reader to name."""
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        sums = metadata["sha256"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    for name, value in sums:
        if isinstance(value, str) and re.fullmatch(DIGITS, value):
            yield name, value.lower()


def known_sums(folder: Path) -> dict[str, tuple[str, Path]]:
    """By name of file, the sum that is known in a folder, and where it is said."""
    found = {}
    for pattern, read in (("*.index.json", sums_of_index), ("*.sha256", sums_of)):
        for path in sorted(folder.glob(pattern)):
            found |= {name: (value, path) for name, value in read(path)}
    return found


def sum_of_blob(file: Path) -> str | None:
    """What the hub's cache says of a file of its snapshots: large ones are links to what is named for its sum."""
    if not file.is_symlink():
        return None
    blob = file.resolve()
    return blob.name if blob.parent.name == "blobs" and re.fullmatch(DIGITS, blob.name) else None


def sum_file(file: Path) -> str:
    """SHA-256 of a file, 64 hex digits; of one that has not changed since, as it was found before."""
    real, about = file.resolve(), file.stat()
    stamp = (about.st_size, about.st_mtime_ns)
    if _found.get(real, ())[:2] != stamp:
        digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
        with open(real, "rb", buffering=0) as source:
            while count := source.readinto(block):
                digest.update(block[:count])
        _found[real] = (*stamp, digest.hexdigest())
    return _found[real][2]


def check_sums(files: Iterable[Path]) -> None:
    """Raises VidgenError for a file whose SHA-256 is not the one that is known of it; files of which none is known, or
    that are not there, pass. Several are read at once, as many as there are cores."""
    folders: dict[Path, dict[str, tuple[str, Path]]] = {}
    wanted: list[tuple[Path, str, str]] = []
    for file in files:
        if not file.is_file():
            continue
        if file.parent not in folders:
            folders[file.parent] = known_sums(file.parent)
        said = folders[file.parent].get(file.name)
        if said is not None:
            wanted.append((file, said[0], str(said[1])))
        elif blob := sum_of_blob(file):
            wanted.append((file, blob, "its name in the hub's cache"))
    if not wanted:
        return
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        found = pool.map(sum_file, [file for file, _, _ in wanted])
        for (file, value, where), actual in zip(wanted, found, strict=True):
            if actual != value:
                raise VidgenError(
                    f"{file} is not what was published: its SHA-256 is {actual[:16]}..., and {value[:16]}... by "
                    f"{where}; delete it and fetch it again"
                )
