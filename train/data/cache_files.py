"""Files of a cache of latents: what they were made from, filled part by part, and held together by checksums."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidgen.data.fingerprints import describe_source, is_current
from vidgen.data.manifests import ClipRecord
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.json_lines import json_line, parse_json_lines, read_json_lines, write_json_lines
from vidgen.files.seals import checksum, open_sealed, save_sealed
from vidgen.train.config import DataConfig
from vidgen.train.data.sources import named_sources
from vidgen.train.data.splits import source_records

CAPTIONS = "captions.jsonl"
SOURCES = "sources.jsonl"
PART = 256  # clips that are encoded before they are written
Source = tuple[ClipRecord, list]  # a clip of a file, and what counts of it beside the file


def list_sources(data: DataConfig, part: str) -> list[Source]:
    """Return the clips of files that a part of the data draws from, each with its id and caption."""
    sources = [source for source in named_sources(data, "validation") if source.kind == "clips"]
    return [(record, [record.id, record.caption]) for source in sources for record in source_records(source, part)]


def is_fresh(folder: Path, sources: Sequence[Source]) -> bool:
    """Return whether what is in `folder` was made from these clips as they are now."""
    try:
        before = [row for _, row in read_json_lines(folder / SOURCES)]
    except (OSError, VidgenError):
        return not sources  # a cache of an earlier version has no such list
    return len(before) == len(sources) and all(
        is_current(row, record, facts) for row, (record, facts) in zip(before, sources, strict=True)
    )


def fill_cache(
    folder: Path, sources: Sequence[Source], count: int, encode: Callable[[int, int], tuple[Tensor, list[dict]]]
) -> None:
    """Write the clips of a cache into `folder`, in place of what is there, going on from what a stopped run wrote.

    encode(start, stop) returns latents of clips start .. stop - 1, and what their captions are made from. Parts lie
    beside the cache until it is whole, and are dropped where they were made from other clips.
    """
    draft = folder.with_name(f"{folder.name}.part")
    if draft.is_dir() and not is_fresh(draft, sources):
        shutil.rmtree(draft)
    draft.mkdir(parents=True, exist_ok=True)
    if not (draft / SOURCES).is_file():
        write_json_lines(draft / SOURCES, (describe_source(*source) for source in sources))
    pieces = {first: draft / f"{first:08d}" for first in range(0, count, PART)}
    for first, piece in pieces.items():
        if not piece.is_dir():
            latents, rows = encode(first, min(first + PART, count))
            with atomic_write(piece) as target:
                write_clips(target, latents, rows)
    parts = [read_tensor(piece, "latents") for piece in pieces.values()]
    with atomic_write(folder) as target:
        write_clips(target, torch.cat([part[0] for part in parts]), [row for part in parts for row in part[1]])
        shutil.copyfile(draft / SOURCES, target / SOURCES)
    shutil.rmtree(draft)


def write_clips(folder: Path, latents: Tensor, rows: Sequence[dict]) -> None:
    """Write latents and what their captions are made from into a new folder."""
    folder.mkdir()
    captions = "".join(map(json_line, rows)).encode()
    (folder / CAPTIONS).write_bytes(captions)
    save_sealed({"latents": latents}, folder / "latents.safetensors", describe_cache(folder, captions))


def describe_cache(folder: Path, captions: bytes) -> dict[str, str]:
    """Return what files of tensors say of the cache that they are of, and of its captions."""
    return {"cache": folder.name, "captions": checksum(captions)}


def read_tensor(folder: Path, name: str) -> tuple[Tensor, list[dict], dict[str, str]]:
    """Return the tensor of this name in the file of this name, what the captions of its clips are made from, and what a
    file of the cache says of it.

    Raises VidgenError where they are damaged, or do not belong together.
    """
    try:
        captions = (folder / CAPTIONS).read_bytes()
        about = describe_cache(folder, captions)
        rows = [row for _, row in parse_json_lines(captions.decode(), CAPTIONS)]
        with open_sealed(folder / f"{name}.safetensors") as file:
            x = file.read(name)
            file.check(name, x)
            if len(x) != len(rows) or (file.seal and file.about != about):
                raise ValueError(f"{name}.safetensors and {CAPTIONS} are not of one cache")
        if not np.isfinite(x).all():
            raise ValueError(f"{name}.safetensors holds numbers that are not finite")
        return torch.from_numpy(x), rows, about
    except (OSError, ValueError) as error:
        raise damaged(folder, error) from None


def damaged(folder: Path, error: Exception) -> VidgenError:
    """Return what to tell the user of a damaged cache."""
    return VidgenError(f"{folder} is damaged ({error}); remove it, and it is made again")
