"""Banks merged: the rows of parts of one extraction, or the features of several models on the same clips."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankWriter, FeatureBank
from vidgen.representations.bank_files import shorten
from vidgen.representations.baselines import PIXEL_BASELINES

SAME = ("label", "split", "group", "labels")  # fields of a clip that all banks must agree in


def join_rows(banks: Sequence[FeatureBank], out: str | os.PathLike) -> FeatureBank:
    """Write and return one bank of the rows of `banks`, which were made alike: of parts of a source, or of several.

    Raises VidgenError for banks that differ in anything but their source, naming what, and for a clip in two of them.
    """
    first, *others = banks
    for bank in others:
        differing = [name for name in sorted({*first.meta, *bank.meta} - {"source"}) if not same(name, first, bank)]
        if differing:
            name = "preprocessing" if "preprocessing" in differing else differing[0]
            raise VidgenError(
                f"{bank.folder} was made in another way than {first.folder}: {contrast(name, first, bank)}"
            )
    homes: dict[str, FeatureBank] = {}
    for bank in banks:
        for name in bank.ids:
            if name in homes:
                raise VidgenError(f"clip {name!r} is in {homes[name].folder} and in {bank.folder}; join each clip once")
            homes[name] = bank
    sources = list(dict.fromkeys(bank.meta.get("source") for bank in banks))
    source = sources[0] if len(sources) == 1 else sources
    with new_writer(out, {**first.meta, "source": source}) as writer:
        for bank in banks:
            for rows, features in bank.shards():
                writer.add(rows, {key: torch.from_numpy(x) for key, x in features.items()})
    return FeatureBank.load(out)


def join_features(banks: Mapping[str, FeatureBank], out: str | os.PathLike, *, mixed: bool = False) -> FeatureBank:
    """Write and return one bank of the features of several, as "name/key"; each holds the clips, in any order.

    The rows are in the order of the first bank. mixed: lets clips that were sized, timed or cut in different ways stand
    side by side; the bank's meta says how each was. Otherwise that raises VidgenError, as do clips or labels that are
    not the same.
    """
    (first_name, first), *others = banks.items()
    for name, bank in others:
        if not mixed and not same("preprocessing", first, bank):
            raise VidgenError(
                f"{name} saw its clips in another way than {first_name}: {contrast('preprocessing', first, bank)}; "
                "extract both alike, or ask for a mixed bank"
            )
        check_clips(first_name, first, name, bank, SAME if mixed else (*SAME, "times"))
    renamed = {
        name: joined_keys(name, bank, pixels=mixed or bank is first, mixed=mixed) for name, bank in banks.items()
    }
    pools = {name: bank.meta.get("pool") for name, bank in banks.items()}
    meta = {
        "keys": [new for keys in renamed.values() for new in keys.values()],
        "banks": {name: bank.meta for name, bank in banks.items()},
        "pool": pools if len(set(pools.values())) > 1 else pools[first_name],
    }
    if not mixed:
        meta |= {name: first.meta[name] for name in ("preprocessing", "preprocessing_hash") if name in first.meta}
    positions = {name: {clip: i for i, clip in enumerate(bank.ids)} for name, bank in banks.items()}
    with new_writer(out, meta) as writer:
        for rows, _ in first.shards(keys=[]):
            features = {}
            for name, bank in banks.items():
                numbers = [positions[name][row.id] for row in rows]
                features |= {
                    new: torch.from_numpy(bank.tokens(key, rows=numbers)) for key, new in renamed[name].items()
                }
            writer.add(rows, features)
    return FeatureBank.load(out)


def joined_keys(name: str, bank: FeatureBank, *, pixels: bool, mixed: bool) -> dict[str, str]:
    """Return new names by key. Pixels are not a model's: in banks that saw the same, those of the first are enough."""
    return {
        key: key if key in PIXEL_BASELINES and not mixed else f"{name}/{key}"
        for key in bank.keys
        if pixels or key not in PIXEL_BASELINES
    }


def new_writer(out: str | os.PathLike, meta: Mapping[str, Any]) -> BankWriter:
    """Return a writer into a folder that holds nothing yet. Raises VidgenError for one that does."""
    writer = BankWriter(out, meta)
    if writer.done:
        raise VidgenError(f"{out} holds a bank already; join into a new folder")
    return writer


def check_clips(first_name: str, first: FeatureBank, name: str, bank: FeatureBank, fields: Sequence[str]) -> None:
    """Raise VidgenError, naming a clip, unless both banks hold the same clips with the same values in `fields`."""
    rows = {row.id: row for row in first.rows}
    others = {row.id: row for row in bank.rows}
    for one, clips, other, present in ((first_name, rows, name, others), (name, others, first_name, rows)):
        missing = [clip for clip in clips if clip not in present]
        if missing:
            raise VidgenError(f"clip {missing[0]!r} of {one} is not in {other} ({len(missing)} such); join equal clips")
    for clip, row in rows.items():
        for field in fields:
            value = getattr(row, field)
            other = getattr(others[clip], field)
            if value != other:
                raise VidgenError(
                    f"clip {clip!r} has {field} {shorten(value)} in {first_name}, and {shorten(other)} in {name}; "
                    "they must agree"
                )


def same(name: str, one: FeatureBank, other: FeatureBank) -> bool:
    """Return whether two banks' meta agree in a part."""
    return one.meta.get(name) == other.meta.get(name)


def contrast(name: str, one: FeatureBank, other: FeatureBank) -> str:
    """Return in words what differs in a part of two banks' meta: of the settings in it the first that does."""
    value = one.meta.get(name)
    others = other.meta.get(name)
    if isinstance(value, dict) and isinstance(others, dict):
        inner = next(key for key in sorted({*value, *others}) if value.get(key) != others.get(key))
        return f"{inner} is {json.dumps(others.get(inner))}, not {json.dumps(value.get(inner))}"
    return f"its {name} is {shorten(others)}, not {shorten(value)}"
