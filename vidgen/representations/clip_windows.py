"""Clips as a bank takes them: a row with id and labels, frames and their times, one by one and in batches."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.datasets import VideoDataset
from vidgen.data.frames import check_size, to_tensor
from vidgen.data.manifests import ClipRecord
from vidgen.data.validation import reason_of
from vidgen.data.windows import clip_windows
from vidgen.errors import VideoError
from vidgen.representations.bank import BankRow
from vidgen.representations.bank_files import NO_LABELS
from vidgen.representations.bank_sources import SourceLog

T = TypeVar("T")
Dropped = list[dict[str, str]]  # {"path", "reason"} of clips that cannot be used


@dataclass(frozen=True, kw_only=True)
class ClipWindow:
    """One row of a bank to be: `video` (3, T, H, W) in [-1, 1], `times` (T,) in seconds, and `position`, how many
    records come before it."""

    row: BankRow
    video: Float[Tensor, "3 T H W"]
    times: Float[Tensor, " T"]
    position: int


def single_windows(
    records: Sequence[ClipRecord],
    window: dict[str, Any],
    seed: int,
    done: Collection[str],
    dropped: Dropped,
    log: SourceLog,
    allow_damaged: bool = False,
) -> tuple[int, Iterator[ClipWindow]]:
    """Return how many records are left to do, and one window of each (`window`: num_frames, size, fps, windows).

    Clips that cannot be read go to `dropped`, and so do those that turn out damaged later. What is read is noted in
    `log`. VidgenError if none is left.
    """
    dataset = open_clips(records, **window, seed=seed, allow_damaged=allow_damaged)
    dropped += [{"path": str(drop.path), "reason": drop.reason} for drop in dataset.dropped]
    todo = [i for i, record in enumerate(dataset.records) if record.id not in done]

    def read() -> Iterator[ClipWindow]:
        for position, index in enumerate(todo):
            record = dataset.records[index]
            log.note(record)
            try:
                item = dataset[index]
            except VideoError as error:
                dropped.append({"path": str(record.path), "reason": reason_of(error, record)})
                continue
            row = describe_row(record, item["times"])
            yield ClipWindow(row=row, video=item["video"], times=item["times"], position=position)

    return len(todo), read()


def open_clips(records: Sequence[ClipRecord], **window: Any) -> VideoDataset:
    """Return the clips as a data set, without its warning: what it drops is for the report."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".* clips left out", UserWarning)
        return VideoDataset(records, **window)


def sliding_windows(
    records: Sequence[ClipRecord],
    window: dict[str, Any],
    stride: int,
    done: Collection[str],
    dropped: Dropped,
    log: SourceLog,
    allow_damaged: bool = False,
) -> tuple[int, Iterator[ClipWindow]]:
    """Return how many records are left to do, and every window of each: a row "id@first frame", of the clip's group.

    One window is in memory at a time, whatever the length of the clips. Damage ends a clip and goes to `dropped`; the
    windows before it count. Clips that `log` knows to be whole are passed over.
    """
    whole = log.whole(done)
    todo = [record for record in records if record.id not in whole]
    size = check_size(tuple(window["size"]))

    def read() -> Iterator[ClipWindow]:
        for position, record in enumerate(todo):
            log.note(record)
            count = 0
            try:
                for part in clip_windows(
                    record,
                    num_frames=window["num_frames"],
                    stride=stride,
                    size=size,
                    fps=window["fps"],
                    allow_damaged=allow_damaged,
                ):
                    name = f"{record.id}@{part.first}"
                    count += 1
                    if name in done:
                        continue
                    times = torch.from_numpy(part.times)
                    row = describe_row(record, times)
                    row = dataclasses.replace(row, id=name, group=record.id if row.group is None else row.group)
                    yield ClipWindow(row=row, video=to_tensor(part.frames), times=times, position=position)
                log.finish(record, count)
            except VideoError as error:
                dropped.append({"path": str(record.path), "reason": reason_of(error, record)})

    return len(todo), read()


def batches(windows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` windows, and at last what is left."""
    remaining = iter(windows)
    while batch := list(islice(remaining, size)):
        yield batch


def describe_row(record: ClipRecord, times: Float[Tensor, " T"]) -> BankRow:
    """Return the row of a record whose frames were read at these times. Parts of one file are a group."""
    group = record.extra.get("subject", record.extra.get("group"))
    if group is None and (record.start or record.duration is not None):
        group = re.sub(r"#\d+$", "", record.id)
    return BankRow(
        id=record.id,
        label=record.label,
        split=record.extra.get("split"),
        group=group,
        times=tuple(round(t, 6) for t in times.tolist()),
        # an object, such as all that is known of a synthetic clip, is no label
        labels={k: v for k, v in record.extra.items() if k not in NO_LABELS and not v.startswith("{")},
    )
