"""Errors that are part of the interface: one line that says what is wrong, where, and what to do."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING_SIGNALS = tuple(s for s in signal.Signals if s.name in ("SIGTERM", "SIGHUP"))  # ask a process to end, as Ctrl-C

# C0 and C1 controls, the separators of lines and paragraphs, and halves of surrogate pairs outside of file names (which
# have the bytes that are no UTF-8 as U+DC80 to U+DCFF: PEP 383).
_CONTROLS = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udc7f\\udd00-\\udfff]")


class VidgenError(ValueError):
    """Bad input from the user, in one line, whatever names it quotes: line breaks and other letters that control a
    terminal stand in it as escapes. The command line prints it and exits with status 2."""

    def __init__(self, message: object = "") -> None:
        super().__init__(_CONTROLS.sub(lambda match: repr(match[0])[1:-1], str(message)))


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
