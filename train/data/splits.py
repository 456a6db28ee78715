"""Which clips of a source train, and which are held out."""

from __future__ import annotations

import os
from collections.abc import Sequence

from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.errors import VidgenError
from vidgen.train.config import SourceConfig


def source_records(source: SourceConfig, part: str) -> list[ClipRecord]:
    """Return the clips that a source of kind "clips" takes for `part`, "train" or "validation".

    Raises VidgenError where no folder is named, and where it is missing.
    """
    if not source.path:
        raise VidgenError(
            "this recipe is for clips of your own: data.sources.N.path=FOLDER (N from 0) says where they are, or "
            "--clips of a comparison"
        )
    if not os.path.exists(source.path):
        raise VidgenError(
            f"{source.path}: no such file or folder; say where your clips are by data.sources.N.path=FOLDER (N from "
            "0), or by --clips of a comparison"
        )
    records = [r for r in find_clips(source.path) if not source.include or r.path.name in source.include]
    try:
        return split_records(records, source.hold_out, part)
    except VidgenError as error:
        raise VidgenError(f"{source.path}: {error}") from None


def split_records(records: Sequence[ClipRecord], hold_out: int, part: str) -> list[ClipRecord]:
    """Return the records of `part`, "train" or "validation".

    Where the data names splits, these are its splits: rows of "train", or without a name, train; "validation" is held
    out, and if there is none, `hold_out` decides among the others. Any other split ("test") is never used. Otherwise
    each `hold_out`-th file is validation, or the last of few, with all of its rows: a file is never on both sides. All
    are both for hold_out 0, and for one file.

    Raises VidgenError for hold_out 1, which would leave nothing to train on, and for data of other splits only.
    """
    if hold_out < 0 or hold_out == 1:
        raise VidgenError(f"hold_out={hold_out} leaves no file to train on; give 2 for every second, or 0 for none")
    wanted = [record for record in records if record.split in (None, "train")]
    held_out = [record for record in records if record.split == "validation"]
    if records and not wanted:
        names = ", ".join(sorted({str(record.split) for record in records}))
        raise VidgenError(f"no clip is of the split train (they are of {names}); name one so")
    if held_out:
        return held_out if part == "validation" else wanted
    files = [_real_file(record) for record in wanted]
    numbers = {file: i for i, file in enumerate(dict.fromkeys(files))}
    if hold_out == 0 or len(numbers) < 2:
        return wanted
    kept = set(range(hold_out - 1, len(numbers), hold_out)) or {len(numbers) - 1}
    is_validation = part == "validation"
    return [r for r, file in zip(wanted, files, strict=True) if (numbers[file] in kept) == is_validation]


def _real_file(record: ClipRecord) -> str:
    return os.path.realpath(record.path)
