"""What became of the entries of a file: how many were read, and which were passed over, and why."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType

from vidgen.data.annotations.record import SpanError
from vidgen.errors import VidgenError

NAMED_SKIPS = 10  # of those that are passed over, so many are told with their reason
HOPELESS = 1000  # entries passed over, and none read, is another layout


class WrongLayout(VidgenError):
    """A file that is not of the layout that it was read as."""


@dataclass
class ReadReport:
    """Counts of entries: `read`, and `skipped`, of which `bad_spans` for their spans alone. `skips` are the first."""

    read: int = 0
    skipped: int = 0
    bad_spans: int = 0
    skips: list[tuple[str, str]] = field(default_factory=list)  # (where, why)

    def entry(self, where: object) -> AbstractContextManager[None]:
        """Return a context in which a VidgenError is counted, and ends the entry alone. WrongLayout goes through."""
        return _Entry(self, where)

    def skip(self, where: object, error: VidgenError) -> None:
        """Count an entry that cannot be read. Raises WrongLayout where nothing else came of a file so far."""
        self.skipped += 1
        self.bad_spans += isinstance(error, SpanError)
        if len(self.skips) < NAMED_SKIPS:
            self.skips.append((str(where), str(error)))
        if self.skipped >= HOPELESS and not self.read:
            raise WrongLayout(f"none of its first {HOPELESS} entries can be read; {self.first_skip}")

    @property
    def first_skip(self) -> str:
        """The first entry that was passed over, and why; blank for none."""
        return f"{self.skips[0][0]}: {self.skips[0][1]}" if self.skips else ""


class _Entry(AbstractContextManager[None]):
    def __init__(self, report: ReadReport, where: object) -> None:
        self._report = report
        self._where = where

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, VidgenError) or isinstance(error, WrongLayout):
            return False
        self._report.skip(self._where, error)
        return True
