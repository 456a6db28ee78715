"""What the rows of a bank were made from: which of them are stale, and a bank without those."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from vidgen.data.fingerprints import describe_source, is_current
from vidgen.data.manifests import ClipRecord
from vidgen.files.atomic import atomic_write
from vidgen.files.json_lines import json_line, read_json_lines
from vidgen.files.locks import exclusive
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.bank_files import META_NAME, write_description

LOG_NAME = "sources.jsonl"
ROWS_AT_ONCE = 256


class SourceLog:
    """A line for every clip of a bank: its file's size, time and hash, its part and its labels, as they were.

    The last line of a clip counts. Of sliding windows another line says how many the whole clip has. A context manager,
    which writes what waits at its end.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.file = Path(folder) / LOG_NAME
        self._is_whole = False  # whether its last line has an end
        exists = self.file.is_file()
        lines = [line for _, line in read_json_lines(self.file, cut_short="any")] if exists else []
        self._sources = {line.get("id"): line for line in lines if "row" in line}
        self._windows = {line.get("id"): line.get("windows") for line in lines if "windows" in line}
        self._waiting: list[dict[str, Any]] = []

    def __enter__(self) -> SourceLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.save()

    def note(self, record: ClipRecord) -> None:
        """Keep what a clip is now; before it is read, so that a change meanwhile counts as one."""
        line = json.loads(json_line({"id": record.id, **describe_source(record, _labels(record))}))
        if self._sources.get(record.id) != line:  # a killed run may have kept it already
            self._sources[record.id] = line
            self._waiting.append(line)

    def finish(self, record: ClipRecord, windows: int) -> None:
        """Keep that the clip has so many windows."""
        if self._windows.get(record.id) != windows:
            self._windows[record.id] = windows
            self._waiting.append({"id": record.id, "windows": windows})

    def save(self) -> None:
        """Append the lines that wait, once there is a bank to append them to."""
        if self._waiting and self.file.with_name(META_NAME).is_file():
            if not self._is_whole and self.file.is_file():
                with self.file.open("r+b") as file:
                    file.truncate(file.read().rfind(b"\n") + 1)  # a line that was cut short
            self._is_whole = True
            with self.file.open("a", encoding="utf-8") as file:
                file.write("".join(map(json_line, self._waiting)))
            self._waiting = []

    def is_stale(self, record: ClipRecord) -> bool:
        """Return whether the clip, its part or its labels are not what they were when the bank was written.

        A clip without a line, of an earlier version or a run that was killed before it, counts as current from now on.
        """
        if record.id not in self._sources:
            self.note(record)
            return False
        return not is_current(self._sources[record.id], record, _labels(record))

    def whole(self, ids: Iterable[str]) -> set[str]:
        """Return the clips all of whose sliding windows are among the rows of a bank."""
        counts = Counter(name.rpartition("@")[0] for name in ids)
        return {name for name, count in counts.items() if self._windows.get(name) == count}


def _labels(record: ClipRecord) -> list:
    return [record.label, record.extra]


def drop_stale_rows(
    folder: str | os.PathLike, meta: Mapping[str, Any], records: Sequence[ClipRecord], *, sliding: bool
) -> bool:
    """Take the rows of clips that have changed out of a bank, if there is one, and return whether there were any.

    A bank of an earlier version has no log: its rows count as current, and are so from now on. Raises VidgenError for a
    bank of other `meta`, which is left as it is.
    """
    if not (Path(folder) / META_NAME).is_file():
        return False
    with BankWriter(folder, meta):
        pass
    bank = FeatureBank.load(folder, empty=True)
    names = [_clip_of(row, sliding) for row in bank.rows]
    present = set(names)
    with SourceLog(folder) as log:
        stale = {record.id for record in records if record.id in present and log.is_stale(record)}
    if stale:
        rewrite_rows(bank, [row.id for row, name in zip(bank.rows, names, strict=True) if name not in stale])
    return bool(stale)


def sort_rows(folder: str | os.PathLike, records: Sequence[ClipRecord], *, sliding: bool) -> None:
    """Bring the rows of a bank into the order of its clips, as in one that was written at once."""
    bank = FeatureBank.load(folder)
    order = {record.id: i for i, record in enumerate(records)}
    key = {row.id: (order.get(_clip_of(row, sliding), len(order)), _first_frame(row, sliding)) for row in bank.rows}
    if (ids := sorted(bank.ids, key=key.__getitem__)) != bank.ids:
        rewrite_rows(bank, ids)


def rewrite_rows(bank: FeatureBank, ids: Sequence[str]) -> None:
    """Write a bank anew with these of its rows, in this order, in place of what it was."""
    numbers = {name: i for i, name in enumerate(bank.ids)}
    with exclusive(bank.folder, "bank"), atomic_write(bank.folder) as target:
        with BankWriter(target, bank.meta) as writer:
            for start in range(0, len(ids), ROWS_AT_ONCE):
                part = [numbers[name] for name in ids[start : start + ROWS_AT_ONCE]]
                features = {key: torch.from_numpy(bank.tokens(key, rows=part)) for key in bank.keys}
                writer.add([bank.rows[i] for i in part], features)
        if not ids:
            target.mkdir()
            write_description(target, bank.meta, [])
        if (bank.folder / LOG_NAME).is_file():
            shutil.copyfile(bank.folder / LOG_NAME, target / LOG_NAME)


def _clip_of(row: BankRow, sliding: bool) -> str:
    return row.id.rpartition("@")[0] if sliding else row.id


def _first_frame(row: BankRow, sliding: bool) -> int:
    return int(row.id.rpartition("@")[2]) if sliding else 0
