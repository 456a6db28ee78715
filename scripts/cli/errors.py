"""Failures at the terminal: one line for what the user or the machine caused, a traceback for a bug."""

from __future__ import annotations

from vidgen.errors import VidgenError

FAILED = 2  # exit status after one line `error: ...`
SIGNALED = 128  # and the number of a signal: the exit status after it, 130 for Ctrl-C
_NO_MEMORY = ("can't allocate memory", "out of memory", "unable to allocate")


def one_line(text: object) -> str:
    """Return `text` with every line break and run of blanks as one blank."""
    return " ".join(str(text).split())


def explain(error: BaseException) -> str | None:
    """Return the line for `error`: what, where, what to do. None for a bug, whose traceback somebody wants to see."""
    if isinstance(error, VidgenError):
        return one_line(error)
    if isinstance(error, OSError):
        prefix = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or one_line(error) or type(error).__name__
        return f"{prefix}{reason}; check the path, its permissions and the free space"
    message = str(error).lower()
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(p in message for p in _NO_MEMORY)):
        return f"out of memory ({one_line(error)[:120]}); ask for fewer or smaller frames, or a smaller batch"
    return None
