"""Which clips of `vidgen sample` are made already, and of what: an index beside several clips of one command.

The same command leaves those alone that are there as they were written, and makes the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.errors import VidgenError, WriteError
from vidgen.files.json_lines import json_line, parse_json_lines, write_json_lines
from vidgen.files.names import short_name
from vidgen.scripts.cli.outputs import (
    beside,
    check_folder_output,
    check_output,
    check_writable,
    default_outputs,
    output_kind,
    plan_outputs,
)

INDEX_NAME = "clips.jsonl"


def index_file(output: Path | None, prompts_file: Path | None, *, is_folder: bool) -> Path:
    """Return where the index of several clips lies: in their folder, or beside them under the name that they share."""
    if is_folder:
        return output / INDEX_NAME
    if output is not None:
        return output.with_name(short_name(output.stem, f".{INDEX_NAME}"))
    return Path(f"{prompts_file.stem if prompts_file is not None else 'sample'}.{INDEX_NAME}")


def stamp(path: Path | None) -> list[list[Any]] | None:
    """Return name, size and time of change of a file, or of all files in a folder: what changes when they do."""
    if path is None or not path.exists():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def size_of(path: Path) -> int:
    """Return the bytes of a clip: of its file, or of its frames."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


class SampleIndex:
    """The index of several clips. A row {"path", "caption", "copy", "seed", "hash"} is written when work at a clip
    begins, and again with the "bytes" of the clip when that is there; the last one of a path counts. Once the command
    has ended, each clip has one row.

    `hash` stands for all that a clip depends on. The index is a manifest of its clips, with prompts as captions.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: dict[str, dict[str, Any]] = {}
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        for _, row in parse_json_lines(text, file, cut_short="any"):
            if isinstance(row.get("path"), str):
                self.rows[row["path"]] = row | {"hash": row.get("hash")}
        self._start = "\n" if text and not text.endswith("\n") else ""  # ends a line that was cut short by a kill

    def find(self, clip_hash: str) -> Path | None:
        """Return where the clip of that hash was begun or made; None where it was not, or something else is there."""
        paths = [self.file.parent / path for path, row in self.rows.items() if row["hash"] == clip_hash]
        return next((path for path in paths if not path.exists() or self.holds(path, clip_hash)), None)

    def holds(self, path: Path, clip_hash: str) -> bool:
        """Return whether the clip of that hash is at `path` as it was written.

        A folder of frames appears whole, and only where there was none: it may be there without its second row.
        """
        row = self.row_of(path) if self.owns(path) else {}
        if row.get("hash") != clip_hash or not path.exists():
            return False
        return row["bytes"] == size_of(path) if "bytes" in row else path.is_dir() and any(path.iterdir())

    def row_of(self, path: Path) -> dict[str, Any]:
        """Return the last row of a clip."""
        return self.rows[self._name(path)]

    def owns(self, path: Path) -> bool:
        """Return whether a clip at `path` was begun by this command, or one like it."""
        return self._name(path) in self.rows

    def add(self, path: Path, row: dict[str, Any]) -> None:
        """Append a row: of a clip that is there, with its size, or else of one that is begun."""
        row = {"path": self._name(path), **row}
        self.rows[row["path"]] = row
        try:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(self._start + json_line(row))
        except OSError as error:
            raise WriteError(f"{self.file}: cannot be written: {error.strerror}; check the free space") from None
        self._start = ""

    def tidy(self) -> None:
        """Leave one row for each clip that is there: whoever reads the index as a manifest gets each of them once."""
        rows = [row for name, row in self.rows.items() if (self.file.parent / name).exists()]
        if rows:
            write_json_lines(self.file, rows)

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self.file.parent)


@dataclass(frozen=True, kw_only=True)
class PlannedClips:
    """The clips of one command: their format, a path and a hash each, which are there already, and their index, where
    there are several."""

    kind: str
    outputs: list[Path]
    hashes: list[str]
    are_done: list[bool]
    index: SampleIndex | None
    folder: Path | None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from writing the same clips; the folder that they go to is made, if need be."""
        from vidgen.files.locks import exclusive

        path = self.outputs[0] if self.index is None else self.index.file
        if self.folder is not None:
            self.folder.mkdir(exist_ok=True)
        with exclusive(path, "clip" if self.index is None else "folder of clips"):
            yield
            if self.index is not None:
                self.index.tidy()


def plan_clips(
    prompts: Sequence[str],
    copies: Sequence[int],
    output: Path | None,
    output_type: str | None,
    *,
    prompts_file: Path | None,
    recipe: Callable[[], dict[str, Any]],
) -> PlannedClips:
    """Return where clips go and which are there already. Raises VidgenError for what could not be written there.

    Args:
        prompts: what they are to show.
        copies: the numbers of the clips of each prompt.
        output: what the user named: a file, a folder, or nothing.
        output_type: the format that the user named.
        prompts_file: where the prompts are from.
        recipe: returns all else that clips depend on; asked for where there are several.
    """
    from vidgen.checkpoints.hashing import json_hash

    is_many = len(prompts) * len(copies) > 1
    kind = output_kind(output, output_type)
    is_folder = is_many and output is not None and not output.suffix and (output_type is None or output.is_dir())
    if is_folder and output_type is None:
        kind = "mp4"
    is_folder = is_folder and kind != "png"
    shared = recipe() | {"kind": kind} if is_many else {}
    hashes = [json_hash([shared, prompt, copy]) for prompt in prompts for copy in copies]
    index = SampleIndex(index_file(output, prompts_file, is_folder=is_folder)) if is_many else None
    if output is not None:
        outputs = plan_outputs(prompts, copies, output, kind, is_folder=is_folder)
    else:
        known = [index.find(clip_hash) if index is not None else None for clip_hash in hashes]
        outputs = default_outputs(prompts, copies, kind, known)
    are_done = [index is not None and index.holds(path, h) for path, h in zip(outputs, hashes, strict=True)]
    if is_folder:
        check_folder_output(output)
    for path, is_done in zip(outputs, are_done, strict=True):
        if is_done or (is_folder and not output.is_dir()):
            continue
        if is_folder and path.exists() and not index.owns(path):
            raise VidgenError(f"{path}: is there already, from elsewhere; choose another folder")
        check_output(path, folder=path.suffix == "")
        check_writable(beside(path, ".latents.safetensors"), path.parent)
    folder = output if is_folder else None
    return PlannedClips(kind=kind, outputs=outputs, hashes=hashes, are_done=are_done, index=index, folder=folder)
