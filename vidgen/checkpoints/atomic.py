"""All or nothing: output is written under another name and renamed, so nothing is ever half-written under its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vidgen.errors import VidgenError


@contextmanager
def scratch_beside(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path of the same name in a hidden folder beside `path`, which is removed at the end.

    Raises VidgenError, in one line, where the folder of `path` is missing or writing fails.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise VidgenError(f"{path}: the folder {path.parent} does not exist; create it first")
    scratch = None
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", dir=path.parent))
        yield scratch / path.name
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise VidgenError(f"{path}: cannot be written: {reason}; check permissions and free space") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path to write a file or folder at, which is renamed to `path` if the block succeeds.

    On any error or interrupt nothing is left, and what was at `path` is untouched. Raises VidgenError as
    `scratch_beside`, and for a file in place of a folder.
    """
    path = Path(path)
    with scratch_beside(path) as target:
        yield target
        if path.is_dir() and not target.is_dir():
            raise VidgenError(f"{path}: is a folder; name a file")
        if path.is_dir():
            path.rename(target.with_name("replaced"))
        os.replace(target, path)
