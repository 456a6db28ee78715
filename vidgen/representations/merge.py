"""Banks made one: the rows of parts of one extraction, or the features of several models on the same clips."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank, shorten
from vidgen.representations.baselines import PIXEL_BASELINES

SAME = ("label", "split", "group", "labels")  # of a clip, in every bank that is joined


def join_rows(banks: Sequence[FeatureBank], out: str | os.PathLike) -> FeatureBank:
    """One bank of the rows of `banks`, which were made alike: of parts of a source, or of several sources.

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
    seen: dict[str, FeatureBank] = {}
    for bank in banks:
        for name in bank.ids:
            if name in seen:
                raise VidgenError(f"clip {name!r} is in {seen[name].folder} and in {bank.folder}; join each clip once")
            seen[name] = bank
    sources = list(dict.fromkeys(bank.meta.get("source") for bank in banks))
    source = sources[0] if len(sources) == 1 else sources
    with new_writer(out, {**first.meta, "source": source}) as writer:
        for bank in banks:
            for rows, features in bank.shards():
                writer.add(rows, {key: torch.from_numpy(x) for key, x in features.items()})
    return FeatureBank.load(out)


def join_features(banks: Mapping[str, FeatureBank], out: str | os.PathLike, *, mixed: bool = False) -> FeatureBank:
    """One bank of the features of several, as "name/key"; the clips, in the order of the first one, are in each.

    mixed: lets clips that were sized, timed or cut in different ways stand side by side; the bank's meta says how each
    was. Otherwise that raises VidgenError, as do clips or labels that are not the same.
    """
    (first_name, first), *others = banks.items()
    for name, bank in others:
        if not mixed and not same("preprocessing", first, bank):
            raise VidgenError(
                f"{name} saw its clips in another way than {first_name}: {contrast('preprocessing', first, bank)}; "
                "extract both alike, or ask for a mixed bank"
            )
        check_clips(first_name, first, name, bank, SAME if mixed else (*SAME, "times"))
    kept = {name: joined_keys(name, bank, pixels=mixed or bank is first, mixed=mixed) for name, bank in banks.items()}
    pools = {name: bank.meta.get("pool") for name, bank in banks.items()}
    meta = {
        "keys": [new for keys in kept.values() for new in keys.values()],
        "banks": {name: bank.meta for name, bank in banks.items()},
        "pool": pools if len(set(pools.values())) > 1 else pools[first_name],
    }
    if not mixed:
        meta |= {name: first.meta[name] for name in ("preprocessing", "preprocessing_hash") if name in first.meta}
    places = {name: {clip: i for i, clip in enumerate(bank.ids)} for name, bank in banks.items()}
    with new_writer(out, meta) as writer:
        for rows, _ in first.shards(keys=[]):
            features = {}
            for name, bank in banks.items():
                numbers = [places[name][row.id] for row in rows]
                features |= {new: torch.from_numpy(bank.tokens(key, rows=numbers)) for key, new in kept[name].items()}
            writer.add(rows, features)
    return FeatureBank.load(out)


def joined_keys(name: str, bank: FeatureBank, *, pixels: bool, mixed: bool) -> dict[str, str]:
    """New names by key. Pixels are not a model's: in banks that saw the same, those of the first are enough."""
    return {
        key: key if key in PIXEL_BASELINES and not mixed else f"{name}/{key}"
        for key in bank.keys
        if pixels or key not in PIXEL_BASELINES
    }


def new_writer(out: str | os.PathLike, meta: Mapping[str, Any]) -> BankWriter:
    """A writer into a folder that holds nothing yet."""
    writer = BankWriter(out, meta)
    if writer.done:
        raise VidgenError(f"{out} holds a bank already; join into a new folder")
    return writer


def check_clips(first_name: str, first: FeatureBank, name: str, bank: FeatureBank, fields: Sequence[str]) -> None:
    """Raises VidgenError, naming one, unless both hold the same clips, and the same is said of each."""
    theirs = {row.id: row for row in bank.rows}
    for one, other, rows in ((first_name, name, theirs), (name, first_name, {row.id: row for row in first.rows})):
        lacking = [row.id for row in (first if one == first_name else bank).rows if row.id not in rows]
        if lacking:
            raise VidgenError(f"clip {lacking[0]!r} of {one} is not in {other} ({len(lacking)} such); join equal clips")
    for row in first.rows:
        for field in fields:
            a, b = told(row, field), told(theirs[row.id], field)
            if a != b:
                raise VidgenError(
                    f"clip {row.id!r} has {field} {shorten(a)} in {first_name}, and {shorten(b)} in {name}; "
                    "they must agree"
                )


def told(row: BankRow, field: str) -> Any:
    value = getattr(row, field)
    return dict(value) if field == "labels" else value


def same(name: str, one: FeatureBank, other: FeatureBank) -> bool:
    return one.meta.get(name) == other.meta.get(name)


def contrast(name: str, one: FeatureBank, other: FeatureBank) -> str:
    """What differs in a part of two banks' meta: of the settings in it the first that does."""
    a, b = one.meta.get(name), other.meta.get(name)
    if isinstance(a, dict) and isinstance(b, dict):
        inner = next(key for key in sorted({*a, *b}) if a.get(key) != b.get(key))
        return f"{inner} is {json.dumps(b.get(inner))}, not {json.dumps(a.get(inner))}"
    return f"its {name} is {shorten(b)}, not {shorten(a)}"
