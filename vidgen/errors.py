"""Errors that are part of the interface: one line that says what is wrong, where, and what to do."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING_SIGNALS = tuple(s for s in signal.Signals if s.name in ("SIGTERM", "SIGHUP"))  # ask a process to end, as Ctrl-C


class VidgenError(ValueError):
    """Bad input from the user. The command line prints it as one line and exits with status 2."""


class VideoError(VidgenError):
    """A file that cannot be read as video (missing, empty, truncated, not a video)."""


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Within the block, whatever another library raises over a stranger's files becomes a VidgenError that begins with
    `what`."""
    try:
        yield
    except VidgenError as error:
        raise VidgenError(str(error) if str(error).startswith(what) else f"{what}: {error}") from None
    except BaseException as error:
        # A panic of the tokenizers' Rust is a BaseException without a class that could be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise VidgenError(f"{what}: {reason[:160]}") from None


class WriteError(VidgenError):
    """A result that cannot be written: a full disk, no permission. What comes after it could not be either."""


class Interrupted(KeyboardInterrupt):
    """The process was asked to end by a signal, of which `number` is the number: Ctrl-C, SIGTERM or SIGHUP."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number = number
