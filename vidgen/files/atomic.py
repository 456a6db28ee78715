"""All or nothing: output is written under another name and renamed, so nothing is ever half-written under its own.

It is written in a hidden folder beside its place, which is locked for as long as it is in use. What a killed process
has left there is nobody's: the next one that writes into the same folder removes it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen.errors import VidgenError, WriteError

if TYPE_CHECKING:
    from filelock import FileLock

SCRATCH = ".vidgen-scratch-"  # and random letters: the name of a hidden folder
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_OWNER = ".owner"  # the file in it that its process holds a lock of
_REPLACED = ".replaced"  # the folder in it with what is about to be replaced
_swept: set[str] = set()


@contextmanager
def scratch_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path of the same name in a hidden folder beside `path`, which is removed at the end.

    Raises WriteError, in one line, where the folder of `path` is missing or writing fails.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise WriteError(f"{path}: the folder {path.parent} does not exist; create it first")
    scratch = owner = None
    try:
        sweep(path.parent)
        scratch, owner = _make_scratch(path.parent)
        yield scratch / path.name
    except Exception as error:
        if (line := _explain(error, path, scratch)) is None:
            raise
        raise line from error
    finally:
        if scratch is not None:
            _discard(scratch, owner)


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write a file or folder at, which is renamed to `path` if the block succeeds.

    On any error or interrupt nothing is left, and what was at `path` is untouched. Raises WriteError as
    `scratch_beside`, and for a file in place of a folder.
    """
    path = Path(path)
    with scratch_beside(path) as target:
        yield target
        if path.is_dir() and not target.is_dir():
            raise WriteError(f"{path}: is a folder; name a file")
        if path.is_dir():
            replaced = target.with_name(_REPLACED)
            replaced.mkdir()
            path.rename(replaced / path.name)
        os.replace(target, path)


def sweep(folder: str | os.PathLike) -> None:
    """Remove what killed processes have left in a folder, once a process; what is in use stays."""
    real = os.path.realpath(folder)
    if real in _swept:
        return
    _swept.add(real)
    with suppress(OSError), os.scandir(real) as entries:
        for entry in entries:
            if entry.name.startswith(SCRATCH) and entry.is_dir(follow_symlinks=False):
                owner = _hold(Path(entry.path))
                if owner is not None:
                    _discard(Path(entry.path), owner)


def _make_scratch(folder: Path) -> tuple[Path, FileLock | None]:
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
        owner = _hold(scratch)
        if owner is not None or not _can_lock(scratch):
            return scratch, owner
        # Another process swept it in the moment before it was ours.


def _hold(scratch: Path) -> FileLock | None:
    """Lock a scratch folder; None where its process holds it, or the file system knows no locks."""
    from filelock import FileLock, Timeout  # not at the top: it is slow, and most verbs write nothing

    owner = FileLock(scratch / _OWNER, timeout=0, thread_local=False)
    try:
        owner.acquire()
    except (Timeout, OSError, NotImplementedError):
        return None
    return owner


def _can_lock(scratch: Path) -> bool:
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=scratch.parent) as other:
        owner = _hold(Path(other))
        if owner is not None:
            owner.release()
        return owner is not None


def _discard(scratch: Path, owner: FileLock | None) -> None:
    """Remove a scratch folder; what was in its place before goes back there unless something else has come."""
    with suppress(OSError):
        for old in (scratch / _REPLACED).iterdir():
            if not (scratch.parent / old.name).exists():
                old.rename(scratch.parent / old.name)
    shutil.rmtree(scratch, ignore_errors=True)
    if owner is not None:
        owner.release()


def _explain(error: Exception, path: Path, scratch: Path | None) -> VidgenError | None:
    """Return what to raise for an error that writing `path` ended in; None for one that is not of writing."""
    number = _error_number(error)
    if isinstance(error, VidgenError) or number is None:
        return None
    name = str(getattr(error, "filename", None) or "").removeprefix("file:")
    reason = os.strerror(number) if number > 0 else " ".join(str(error).split())[:200]
    if name and scratch is not None and scratch.name not in Path(name).parts and Path(name) != path:
        return VidgenError(f"{name}: {reason}; check the path and its permissions")  # read for what is written
    if number not in FULL:
        return WriteError(f"{path}: cannot be written: {reason}; check permissions and free space")
    size = sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file()) if scratch is not None else 0
    free = shutil.disk_usage(path.parent).free + size
    needs = f"it needs more than {size / 2**20:.1f} MiB, and {free / 2**20:.1f} MiB are free"
    return WriteError(f"{path}: cannot be written: {reason}: {needs}; make room, then the same command goes on")


def _error_number(error: Exception) -> int | None:
    """Return the errno of an error that the system caused, 0 where it has none; None for any other error."""
    if isinstance(error, OSError):
        return error.errno or 0
    if match := re.search(r"\(os error (\d+)\)", str(error)):  # of safetensors
        return int(match[1])
    text = str(error)  # torch.save loses the number: its file ends in the middle
    is_torch = "PytorchStreamWriter" in text or ("inline_container" in text and "Reader" not in text)
    return errno.ENOSPC if is_torch else None
