"""The files of a bank: their names, the rows they are of, and what each says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen.checkpoints.json_lines import parse_json_lines
from vidgen.errors import VidgenError

META_NAME = "bank.json"
SHARD = "shard"
LAYOUT = 1
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


def read_index(folder: Path) -> tuple[dict[str, Any], list[list[BankRow]]]:
    """Return the meta and the rows of every shard of the bank in `folder`, which may be none yet.

    Meta keys of older banks come under the names they have now. Raises VidgenError if there is no bank, or if it is
    damaged or of another layout.
    """
    try:
        described = json.loads((folder / META_NAME).read_text(encoding="utf-8"))
        if described["layout"] != LAYOUT:
            raise VidgenError(f"{folder} has bank layout {described['layout']}, this version reads {LAYOUT}")
        count = 0
        while (folder / f"{shard_stem(count)}.safetensors").exists():
            count += 1
        texts = [(folder / f"{shard_stem(i)}.jsonl").read_text(encoding="utf-8") for i in range(count)]
        names = [f"{folder}: the bank's index is damaged; {shard_stem(i)}.jsonl" for i in range(count)]
        shards = map(parse_json_lines, texts, names)
        rows = [[BankRow(**{**line, "times": tuple(line["times"])}) for _, line in shard] for shard in shards]
        return with_new_names(described["meta"]), rows
    except (FileNotFoundError, NotADirectoryError) as error:
        name = Path(error.filename).name
        raise VidgenError(f"{folder} is not a feature bank: no {name}; make one with `vidgen extract`") from None
    except VidgenError:
        raise
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise VidgenError(f"{folder}: the bank's index is damaged ({error}); extract it again") from None


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
