"""One writer at a time: a lock of each folder or file that is written, which ends with its process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vidgen.errors import VidgenError
from vidgen.files.names import short_name

LET_GO = 5.0  # seconds in which the children of a killed process drop the lock that they were born with
_lent: set[Path] = set()  # paths that `reserve` holds and nothing inside it has taken over


@contextmanager
def exclusive(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Keep every other process, and every other part of this one, from writing `path` during the block.

    `path` is a folder or file, which need not exist; `what` names its kind in the message ("bank"). The lock is of the
    operating system: it goes with the process, however that ends. Its file lies beside `path`, hidden, and is removed
    with the lock; one that a killed process left is nobody's, and is taken over. Folders that are missing above `path`
    are made, and removed again where nothing was written.

    Raises VidgenError where another holds the lock, naming its process (at once, if that lives), and where `path`
    cannot be written.
    """
    from filelock import FileLock, Timeout  # not at the top: `vidgen --help` would wait for it

    path = Path(path)
    real = Path(os.path.realpath(path))
    with ExitStack() as stack:
        if real in _lent:
            _lent.remove(real)
            stack.callback(_lent.add, real)
            yield
            return
        try:
            stack.enter_context(_parents(real))
            file = _lock_file(real)
            lock = FileLock(file, timeout=0, thread_local=False)
            try:
                lock.acquire()
            except Timeout:
                if not _is_gone(file):
                    raise
                lock.acquire(timeout=LET_GO)
            stack.callback(lock.release)
            stack.callback(file.unlink, missing_ok=True)  # while it is held: whoever waits for it opens another
            file.write_text(f"{os.getpid()} {socket.gethostname()}", encoding="utf-8")
        except Timeout:
            raise VidgenError(
                f"{path}: this {what} is being written by {_holder(file)}; wait until it ends, or choose another path"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise VidgenError(f"{path}: cannot be written: {reason}; check permissions and free space") from None
        yield


@contextmanager
def reserve(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Keep every other process from writing `path` as `exclusive` does, and lend the lock to `exclusive` in the block.

    So a command holds for all its time what its parts lock for some of it. What is reserved already stays so.
    """
    real = Path(os.path.realpath(path))
    if real in _lent:
        yield
        return
    with exclusive(path, what):
        _lent.add(real)
        try:
            yield
        finally:
            _lent.discard(real)


def _lock_file(real: Path) -> Path:
    # A folder that is mounted may be all that can be written.
    home = real if real.is_dir() and not os.access(real.parent, os.W_OK) else real.parent
    return home / short_name(f".{real.name}", ".lock")


@contextmanager
def _parents(real: Path) -> Iterator[None]:
    missing = [folder for folder in real.parents if not folder.exists()]
    real.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # what is in use stays
            for folder in missing:
                folder.rmdir()


def _holder(file: Path) -> str:
    pid, host = _read_owner(file)
    if pid is None:
        return "another process"
    return f"process {pid}" if host == socket.gethostname() else f"process {pid} on {host}"


def _is_gone(file: Path) -> bool:
    """Return whether the process that a lock file names is no more, on this machine."""
    pid, host = _read_owner(file)
    if pid is None or host != socket.gethostname() or os.name != "posix":  # elsewhere, signal 0 is Ctrl-C
        return False
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError) as error:
        return isinstance(error, ProcessLookupError)
    return False


def _read_owner(file: Path) -> tuple[int | None, str]:
    try:
        pid, host = file.read_text(encoding="utf-8").split()
        return int(pid), host
    except (OSError, ValueError):
        return None, ""
