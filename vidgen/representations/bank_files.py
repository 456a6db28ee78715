"""The files of a bank: their names, the rows they are of, and what each says of itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vidgen.checkpoints.hashing import json_hash
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.bounded_files import TABLE_BYTES, load_json, read_bytes, read_text
from vidgen.files.json_lines import json_line, parse_json_lines
from vidgen.files.seals import checksum, save_sealed

META_NAME = "bank.json"
SHARD = "shard"
LAYOUT = 1
NO_LABELS = ("split", "subject", "group")  # columns of a manifest with another meaning than labels
FORMER_META = {"taps": "layers"}  # keys of the meta of older banks


@dataclass(frozen=True, kw_only=True)
class BankRow:
    """What one row of features is of: source id, label, split, group (clips of a group belong on one side of a split),
    the times in seconds of the frames that went in, and more labels, as text, by name."""

    id: str
    label: str | None = None
    split: str | None = None
    group: str | None = None
    times: tuple[float, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What a bank says of one shard: its rows, the checksum of their index, and the seal of their features ("" of a
    shard that an earlier version wrote)."""

    rows: int
    index: str
    seal: str


def write_shard(folder: Path, number: int, rows: Sequence[BankRow], features: Mapping[str, Tensor]) -> Shard:
    """Write the index of a shard, and its features (n, ...) by key, and return what a bank says of it."""
    index = "".join(json_line(asdict(row)) for row in rows).encode()
    stem = shard_stem(number)
    with atomic_write(folder / f"{stem}.jsonl") as target:
        target.write_bytes(index)
    with atomic_write(folder / f"{stem}.safetensors") as target:
        seal = save_sealed(features, target)
    return Shard(rows=len(rows), index=checksum(index), seal=seal)


def write_description(folder: Path, meta: Mapping[str, Any], shards: Sequence[Shard]) -> None:
    """Write what a bank says of itself; a shard counts from then on."""
    described = {"layout": LAYOUT, "meta": meta, "hash": json_hash(meta), "rows": sum(shard.rows for shard in shards)}
    with atomic_write(folder / META_NAME) as target:
        text = json.dumps(described | {"shards": [asdict(shard) for shard in shards]}, indent=2)
        target.write_text(text + "\n", encoding="utf-8")


def read_index(folder: Path) -> tuple[dict[str, Any], list[list[BankRow]], list[Shard]]:
    """Return the meta of the bank in `folder`, and of every shard, of which there may be none yet, the rows and what
    the bank says of it.

    Meta keys of older banks come under the names they have now. Raises VidgenError if there is no bank, or if it is
    damaged or of another layout.
    """
    try:
        described = load_json(read_text(folder / META_NAME))
        if described["layout"] != LAYOUT:
            raise VidgenError(f"{folder} has bank layout {described['layout']}, this version reads {LAYOUT}")
        shards = listed_shards(described) if "shards" in described else older_shards(folder)
        rows = [read_rows(folder / f"{shard_stem(number)}.jsonl", shard) for number, shard in enumerate(shards)]
        ids = [row.id for shard in rows for row in shard]
        if len(set(ids)) < len(ids):
            raise ValueError(f"several rows are of clip {Counter(ids).most_common(1)[0][0]!r}")
        return with_new_names(described["meta"]), rows, shards
    except (FileNotFoundError, NotADirectoryError) as error:
        name = Path(error.filename).name
        if name != META_NAME:
            raise VidgenError(f"{folder}: {name} is missing; put it back, or extract the bank again") from None
        raise VidgenError(f"{folder} is not a feature bank: no {name}; make one with `vidgen extract`") from None
    except VidgenError:
        raise
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VidgenError(f"{folder}: the bank's index is damaged ({error}); extract it again") from None


def listed_shards(described: dict[str, Any]) -> list[Shard]:
    """Return what a bank says of its shards. Raises ValueError where what it says is not as it was written."""
    meta = described["meta"]
    if described["hash"] not in (json_hash(meta), json_hash(with_new_names(meta))):
        raise ValueError(f"meta in {META_NAME} is not as it was written")
    shards = [Shard(**shard) for shard in described["shards"]]
    if described["rows"] != sum(shard.rows for shard in shards):
        raise ValueError(f"shards in {META_NAME} are not as they were written")
    return shards


def older_shards(folder: Path) -> list[Shard]:
    """Return the shards of a bank of an earlier version, which counts those whose features are there.

    Raises ValueError where one between others is missing.
    """
    stems = sorted(path.stem for path in folder.glob(f"{SHARD}-*.safetensors"))
    for number, stem in enumerate(stems):
        if stem != shard_stem(number):
            raise ValueError(f"{shard_stem(number)}.safetensors is missing")
    indexes = [read_bytes(folder / f"{stem}.jsonl", TABLE_BYTES) for stem in stems]
    counts = [sum(1 for line in data.split(b"\n") if line.strip()) for data in indexes]
    return [Shard(rows=n, index=checksum(data), seal="") for n, data in zip(counts, indexes, strict=True)]


def read_rows(path: Path, shard: Shard) -> list[BankRow]:
    """Return the rows in the index of a shard. Raises ValueError where it is not as it was written."""
    data = read_bytes(path, TABLE_BYTES)
    if checksum(data) != shard.index:
        raise ValueError(f"{path.name} is not as it was written")
    text = data.decode()
    try:  # at once, which takes less time than line by line: JSON has no line ends within its texts
        lines = json.loads(f"[{text.rstrip().replace(chr(10), ',')}]")
    except (ValueError, RecursionError):
        name = f"{path.parent}: the bank's index is damaged; {path.name}"
        lines = [line for _, line in parse_json_lines(text, name)]
    if len(lines) != shard.rows:
        raise ValueError(f"{path.name} has {len(lines)} rows, not {shard.rows}")
    return [BankRow(**{**line, "times": tuple(line["times"])}) for line in lines]


def with_new_names(meta: dict[str, Any]) -> dict[str, Any]:
    """Return a bank's meta with the keys it has now; in a joined bank also those of its parts."""
    renamed = {FORMER_META.get(name, name): value for name, value in meta.items()}
    if "banks" in renamed:
        renamed["banks"] = {name: with_new_names(part) for name, part in renamed["banks"].items()}
    return renamed


def shard_stem(number: int) -> str:
    """Return the name of a shard's files, without their suffix."""
    return f"{SHARD}-{number:05d}"


def shorten(value: Any) -> str:
    """Return a value as text for an error message, at most 60 characters long."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
