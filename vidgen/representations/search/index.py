"""A stored index of features that can grow: a bank of one feature, merged from the banks of many sources."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vidgen.deprecation import renamed_fields
from vidgen.errors import VidgenError
from vidgen.files.seals import json_checksum
from vidgen.representations.bank import BankWriter, FeatureBank, shorten
from vidgen.representations.extractor import parse_key
from vidgen.representations.probes.standardization import Standardizer
from vidgen.representations.search.clips import path_of
from vidgen.representations.search.nearest import (
    Backend,
    Nearest,
    choose_backend,
    open_faiss,
    search_exactly,
    search_faiss,
)

BLOCK = 16_384  # rows in memory
SAME = ("seed", "prompt", "pool", "model", "model_hash", "preprocessing", "preprocessing_hash")  # of all banks in one


def describe_index(meta: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return what all rows of an index share, from a bank's meta: banks where this differs are not merged."""
    layer, level = parse_key(key)
    about = {"keys": [key], "layers": [layer], "noise_levels": [] if level is None else [level]}
    return about | {name: meta.get(name) for name in SAME}


def grow_index(folder: str | os.PathLike, bank: FeatureBank, key: str | None = None) -> dict[str, int]:
    """Add the rows of a bank to the index in `folder`, which is made if it is not there; rows that it has are skipped.

    key: the feature, by layer or key; None takes that of the index, or the only one of the bank. Ids become paths, with
    the bank's source in front, so that clips of different sources are different.
    Returns {"added", "rows"}. Raises VidgenError for a bank of another model, preprocessing, pool, seed or text.
    """
    folder = Path(folder)
    if key is None:
        key = FeatureBank.load(folder).keys[0] if (folder / "bank.json").exists() else only_key(bank)
    key = bank.find_key(*parse_key(key))
    with BankWriter(folder, describe_index(bank.meta, key), shard_rows=BLOCK) as writer:
        before = len(writer.done)
        for start in range(0, len(bank), BLOCK):
            rows = [replace(row, id=path_of(bank, row)) for row in bank.rows[start : start + BLOCK]]
            x = bank.X(key, rows=range(start, start + len(rows)))
            writer.add(rows, {key: torch.from_numpy(x)})
    return {"added": len(writer.done) - before, "rows": len(writer.done)}


def only_key(bank: FeatureBank) -> str:
    """Return the key of a bank's only feature. Raises VidgenError for a bank of several."""
    if len(bank.keys) > 1:
        raise VidgenError(f"{bank.folder} has several features, choose one: {', '.join(bank.keys)}")
    return bank.keys[0]


@renamed_fields(neighbours="neighbors")
class StoredIndex:
    """An index on disk. Cosines are of features standardized on all its rows, as everywhere in retrieval: an index that
    grew gives what one made at once would give."""

    def __init__(self, folder: str | os.PathLike) -> None:
        self.bank = FeatureBank.load(folder)
        self.key = only_key(self.bank)

    def __len__(self) -> int:
        return len(self.bank)

    @property
    def meta(self) -> dict[str, Any]:
        """What all rows share; see `describe_index`."""
        return self.bank.meta

    @cached_property
    def scaler(self) -> Standardizer:
        """Of all rows."""
        return Standardizer.fit_blocks(self.blocks)

    def blocks(self) -> Iterator[Float[np.ndarray, "m c"]]:
        """Yield all rows in their order, a few thousand at a time."""
        for start in range(0, len(self), BLOCK):
            yield self.bank.X(self.key, rows=range(start, min(start + BLOCK, len(self))))

    def check(self, bank: FeatureBank) -> None:
        """Raise VidgenError unless the bank's features are of the same make as those of the index."""
        bank.find_key(self.key)
        theirs = describe_index(bank.meta, self.key)
        for name, ours in self.meta.items():
            if theirs[name] != ours:
                raise VidgenError(
                    f"{bank.folder} has other features than the index {self.bank.folder}: its {name} is "
                    f"{shorten(theirs[name])}, not {shorten(ours)}; extract with the same model and options"
                )

    def search(self, queries: Float[np.ndarray, "q c"], k: int = 10, backend: Backend = "auto") -> Nearest:
        """Return the k nearest rows of each query; see `choose_backend`.

        Raises VidgenError for faiss where it is not installed, and for queries that are not as wide as the index.
        """
        if queries.shape[1] != (width := int(np.prod(self.bank.shapes[self.key]))):
            raise VidgenError(f"queries are {queries.shape[1]} wide, and the index {self.bank.folder} is {width}")
        if choose_backend(backend, len(self)) == "exact":
            return search_exactly(self.blocks, self.scaler, queries, k)
        path = self.bank.folder / f"rows-{len(self)}.faiss"
        index = open_faiss(
            path, self.blocks, self.scaler, len(self), json_checksum([*map(asdict, self.bank.description)])
        )
        return search_faiss(index, self.scaler, queries, k)

    def neighbors(self, bank: FeatureBank, k: int = 10, backend: Backend = "auto") -> list[dict[str, Any]]:
        """Return for every row of a bank the k nearest of the index, itself left out, as `list_neighbors` does."""
        self.check(bank)
        nearest = self.search(bank.X(self.key), k + 1, backend)
        lines = []
        for row, numbers, cosines in zip(bank.rows, nearest.rows, nearest.cosines, strict=True):
            others = [(self.bank.rows[n], float(c)) for n, c in zip(numbers, cosines, strict=True) if n >= 0]
            others = [(other, cosine) for other, cosine in others if other.id != path_of(bank, row)][:k]
            neighbors = [
                {"row": other, "cosine": cosine, "hit": None if row.label is None else other.label == row.label}
                for other, cosine in others
            ]
            lines.append({"query": row, "neighbours": neighbors})
        return lines
