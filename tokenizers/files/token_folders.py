"""Tokens of many clips: a file each under the clip's own path, and an index that says what is there and of what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vidgen.checkpoints.hashing import json_hash
from vidgen.data.manifests import ClipRecord
from vidgen.data.webdataset import archive_of
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.json_lines import json_line, read_json_lines
from vidgen.files.seals import json_checksum
from vidgen.tokenizers.files.token_files import read_seal

INDEX_NAME = "index.jsonl"
SUM = "checksum"  # in a line: of all else in it


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """One line of an index. path is relative to its folder; source is the clip's own; bytes the file's size, bits
    those of the tokens in it alone; hash says what they were made from and how (`hash_source`), and so does made_from
    (`describe_source`), by contents too; seal is the file's. An index of an earlier version has "" and {} for the last
    two."""

    path: str
    source: str
    frames: int
    fps: float
    height: int
    width: int
    bytes: int
    bits: int
    hash: str
    tokenizer_hash: str
    seal: str = ""
    made_from: dict[str, Any] = field(default_factory=dict)


def place(names: Sequence[str], suffix: str) -> list[str]:
    """Return a relative path with `suffix` for each name, none twice, none outside of the folder that they go to.

    A name keeps its own suffix before the new one, so that a.mp4 and a.mov stay apart, and a name's path does not
    depend on what else is in its folder.
    """
    taken: set[str] = set()
    paths = []
    for name in names:
        parts = [part for part in PurePosixPath(name.replace("#", "-")).parts if part not in ("..", "/")]
        base = PurePosixPath(*parts).as_posix() if parts else "clip"
        path = base + suffix
        tries = 1
        while path.casefold() in taken:  # some file systems do not tell cases apart
            tries += 1
            path = f"{base}~{tries}{suffix}"
        taken.add(path.casefold())
        paths.append(path)
    return paths


def hash_source(record: ClipRecord, tokenizer_hash: str, settings: object) -> str:
    """Return a hash of what the tokens of a clip depend on.

    That is the tokenizer, the settings (plain data), which part of the clip, and the size and time of change of its
    file or frames. Raises VidgenError if it is not there.
    """
    try:
        files = sorted(record.path.iterdir()) if record.path.is_dir() else [archive_of(record.path) or record.path]
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise VidgenError(f"{record.path}: cannot be read: {error.strerror}; check the path") from None
    part = [record.start, record.duration, record.fps]
    return json_hash([tokenizer_hash, settings, part, stamps])


class TokenIndex:
    """The index of a folder, as it grows: every row is on disk once `add` returns, so that a run can be continued.

    Raises VidgenError for an index that cannot be read; a last line cut short, by a run that was killed, is left out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / INDEX_NAME
        self.rows = {row.path: row for row in _read_rows(self.file)} if self.file.is_file() else {}

    def holds(self, path: str, source_hash: str, is_same: Callable[[dict[str, Any]], bool] | None = None) -> bool:
        """Return whether the file at `path` is there as it was written, from the same source in the same way.

        `is_same` says so of a row's `made_from`; by it a source that was only touched is the same. A row without it is
        of the same source where its hash is `source_hash`.
        """
        row = self.rows.get(path)
        file = self.folder / path
        if row is None or not file.is_file() or file.stat().st_size != row.bytes:
            return False
        if not (is_same(row.made_from) if is_same and row.made_from else row.hash == source_hash):
            return False
        try:
            check_seal(file, row)
        except VidgenError:
            return False
        return True

    def add(self, row: TokenRow) -> None:
        """Add a row, in place of one of the same path."""
        if row.path not in self.rows and self.file.is_file() and not self.file.read_bytes().endswith(b"\n"):
            self.save()  # ends the line that was cut short
        self.rows[row.path] = row
        with self.file.open("a", encoding="utf-8") as file:
            file.write(_line(row))

    def save(self) -> None:
        """Write the index anew: in order of paths, each once, files that are gone left out."""
        rows = [row for _, row in sorted(self.rows.items()) if (self.folder / row.path).is_file()]
        self.rows = {row.path: row for row in rows}
        with atomic_write(self.file) as target:
            target.write_text("".join(map(_line, rows)), encoding="utf-8")


def read_index(folder: Path) -> list[TokenRow]:
    """Return the rows of the index of a folder of tokens. Raises VidgenError if there is none, or it cannot be read."""
    file = folder / INDEX_NAME
    if not file.is_file():
        raise VidgenError(f"{folder}: no {INDEX_NAME} in this folder; `vidgen tokenizer encode DIR -o OUT` writes one")
    rows = list({row.path: row for row in _read_rows(file)}.values())
    if not rows:
        raise VidgenError(f"{file}: lists no token files; encode the clips again")
    return rows


def check_seal(file: Path, row: TokenRow) -> None:
    """Raise VidgenError unless `file` is the token file that a row of an index is of."""
    if not row.seal:
        return
    if read_seal(file) != row.seal:
        raise VidgenError(f"{file}: not the file that {INDEX_NAME} lists under its name; encode the clips again")


def unlisted(folder: Path, rows: Iterable[TokenRow]) -> list[Path]:
    """Return the token files in a folder that its index does not list, as where a line of it is gone."""
    listed = {row.path for row in rows}
    files = [(file, file.relative_to(folder)) for file in sorted(folder.rglob("*.safetensors"))]
    hidden = [any(part.startswith(".") for part in name.parts) for _, name in files]
    return [
        file for (file, name), skip in zip(files, hidden, strict=True) if not skip and name.as_posix() not in listed
    ]


def _line(row: TokenRow) -> str:
    values = dataclasses.asdict(row)
    return json_line(values | {SUM: json_checksum(values)} if row.seal else values)


def _read_rows(file: Path) -> Iterable[TokenRow]:
    for number, line in read_json_lines(file, cut_short="last"):
        written = line.pop(SUM, "")
        if bool(line.get("seal")) != bool(written) or (written and written != json_checksum(line)):
            raise VidgenError(f"{file}, line {number}: not as it was written; remove the file, and encode again")
        try:
            yield TokenRow(**line)
        except TypeError as error:
            reason = " ".join(str(error).split())[:120]
            raise VidgenError(f"{file}, line {number}: not a row of an index ({reason}); remove the file") from None
