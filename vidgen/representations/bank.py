"""A bank of features: safetensors shards with a row index beside each, and one file that says how they were made."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.files.atomic import sweep
from vidgen.files.locks import exclusive
from vidgen.files.seals import SealedFile, open_sealed
from vidgen.representations.bank_files import (
    META_NAME,
    BankRow,
    Shard,
    read_index,
    shard_stem,
    shorten,
    write_description,
    write_shard,
)
from vidgen.representations.feature_keys import feature_key, parse_key


class BankWriter:
    """Writes a bank shard by shard; a context manager, and the only writer of its bank as long as it is open.

    A shard counts once bank.json lists it, after its index and its features are in place, so a killed run loses at most
    `shard_rows` rows. Opening a bank that exists continues it: `done` holds the ids that it has, and `add` passes over
    them. Raises VidgenError if `folder` holds a bank of other `meta` (plain data), or something else, and while another
    writes it.
    """

    def __init__(self, folder: str | os.PathLike, meta: Mapping[str, Any], *, shard_rows: int = 256) -> None:
        self.folder = Path(folder)
        self.shard_rows = shard_rows
        self.meta = json.loads(json.dumps(dict(meta)))  # as it will be read back
        self.done: set[str] = set()
        self._shards: list[Shard] = []
        self._layout: dict[str, tuple[int, ...]] | None = None
        self._rows: list[BankRow] = []
        self._parts: list[dict[str, Tensor]] = []
        with ExitStack() as stack:
            stack.enter_context(exclusive(self.folder, "bank"))
            if (self.folder / META_NAME).exists():
                self._continue(FeatureBank.load(self.folder, empty=True))
            elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.glob("[!.]*"))):
                raise VidgenError(f"{self.folder} exists and is not a feature bank; choose a new folder")
            self._lock = stack.pop_all()

    def _continue(self, bank: FeatureBank) -> None:
        for name in sorted({*bank.meta, *self.meta}):
            if bank.meta.get(name) != self.meta.get(name):
                raise VidgenError(
                    f"{self.folder} holds a bank of other features: its {name} is {shorten(bank.meta.get(name))}, not "
                    f"{shorten(self.meta.get(name))}; choose another folder"
                )
        sweep(self.folder)  # here, since a run that was killed at its end has nothing more to write
        self.done = set(bank.ids)
        self._shards = list(bank.description)
        self._layout = bank.shapes if bank.num_shards else None

    def __enter__(self) -> BankWriter:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self.flush()  # on errors and interrupts too: rows that were added are good

    def add(self, rows: Sequence[BankRow], features: Mapping[str, Float[Tensor, "n ..."]]) -> None:
        """Add one row of every feature for each of `rows`.

        Raises VidgenError, naming the clip, for features that are not finite or not of the shape the bank has.
        """
        for key, x in features.items():
            if len(x) != len(rows):
                raise ValueError(f"{len(rows)} rows, but {key} has {len(x)}")
            for row, finite in zip(rows, torch.isfinite(x.flatten(1)).all(1).tolist(), strict=True):
                if not finite:
                    raise VidgenError(f"features {key} of clip {row.id!r} are not finite; leave the clip out")
        shapes = {key: tuple(x.shape[1:]) for key, x in features.items()}
        if shapes != (self._layout or shapes):
            raise VidgenError(
                f"features of clip {rows[0].id!r} have shapes {shorten(shapes)}, those of {self.folder} have "
                f"{shorten(self._layout)}; pool them, or use one size and length"
            )
        for i, row in enumerate(rows):
            if row.id not in self.done:
                self.done.add(row.id)
                self._layout = shapes
                self._rows.append(row)
                self._parts.append({key: x[i].detach().to("cpu", torch.float32) for key, x in features.items()})
        if len(self._rows) >= self.shard_rows:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait as a shard of their own."""
        if not self._rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._shards:  # first, so that a killed run's folder is known for a bank
            write_description(self.folder, self.meta, [])
        features = {key: torch.stack([part[key] for part in self._parts]) for key in self._parts[0]}
        self._shards.append(write_shard(self.folder, len(self._shards), self._rows, features))
        write_description(self.folder, self.meta, self._shards)
        self._rows, self._parts = [], []


class FeatureBank:
    """A bank on disk, read shard by shard: `X(layer, noise_level)`, `y`, `groups`, `split(name)`, `ids`, `meta`."""

    def __init__(
        self, folder: Path, meta: dict[str, Any], rows: list[list[BankRow]], description: Sequence[Shard]
    ) -> None:
        self.folder = folder
        self.meta = meta
        self.num_shards = len(rows)
        self.rows = [row for shard in rows for row in shard]
        self.description = description
        self._sizes = [len(shard) for shard in rows]
        self._checked: set[tuple[int, str]] = set()  # features of shards that are as they were written

    @classmethod
    def load(cls, folder: str | os.PathLike, *, empty: bool = False) -> FeatureBank:
        """Return the bank in `folder`. Raises VidgenError if there is none, if it is damaged, or if it has no rows and
        `empty` does not allow it."""
        folder = Path(folder)
        meta, rows, description = read_index(folder)
        if not rows and not empty:
            raise VidgenError(f"{folder} holds no rows yet; extract into it first")
        return cls(folder, meta, rows, description)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of every feature, by key."""
        with self._open(0) as file:
            return {key: file.shape(key)[1:] for key in file.names}

    @property
    def keys(self) -> list[str]:
        """Every feature's key, in the order of the meta's where it names them."""
        order = {key: i for i, key in enumerate(self.meta.get("keys", []))}
        return sorted(self.shapes, key=lambda key: (order.get(key, len(order)), key))

    @property
    def layers(self) -> list[str]:
        """The layers, without noise levels."""
        return list(dict.fromkeys(parse_key(key)[0] for key in self.keys))

    @property
    def taps(self) -> list[str]:
        """The former name of `layers`."""
        warnings.warn("FeatureBank.taps is now called layers", FutureWarning, stacklevel=2)
        return self.layers

    @property
    def ids(self) -> list[str]:
        """Ids (n), one a row."""
        return [row.id for row in self.rows]

    @property
    def y(self) -> np.ndarray:
        """Labels (n,), strings; None where a clip has none."""
        return np.array([row.label for row in self.rows], dtype=object)

    @property
    def columns(self) -> list[str]:
        """Names of the labels: "label" where a clip has it, and the others."""
        plain = ["label"] if any(row.label is not None for row in self.rows) else []
        return plain + list(dict.fromkeys(name for row in self.rows for name in row.labels))

    def column(self, name: str) -> list[str | None]:
        """Return labels (n) of that name, as text; None where a clip has none."""
        return [row.label if name == "label" else row.labels.get(name) for row in self.rows]

    @property
    def groups(self) -> np.ndarray:
        """Groups (n,), strings; a clip without one is a group of its own."""
        return np.array([row.id if row.group is None else row.group for row in self.rows], dtype=object)

    def split(self, name: str) -> Int[np.ndarray, " k"]:
        """Return the row numbers of a split; where no row has one, of that which probes draw ("train" and "test").
        Raises VidgenError if no row belongs to it."""
        sides = [row.split for row in self.rows]
        if name in ("train", "test") and not any(sides) and "label" in self.columns:
            from vidgen.representations.probes.task import draw_sides  # not at the top: it imports scikit-learn

            sides = draw_sides(self)
        numbers = [i for i, side in enumerate(sides) if side == name]
        if not numbers:
            splits = sorted({str(row.split) for row in self.rows if row.split is not None})
            raise VidgenError(f"{self.folder} has no split {name!r}; it has {', '.join(splits) or 'none'}")
        return np.array(numbers)

    def X(
        self, layer: str, noise_level: float | None = None, rows: Sequence[int] | None = None
    ) -> Float[np.ndarray, "n c"]:
        """Return features (n, c) float32 of a layer or key, axes flattened; only `rows`, in their order, if given.

        Shards are mapped, not loaded: memory is that of the result and one shard's column. `noise_level` may be left
        out where the layer has one. Raises VidgenError for a layer or level that is not there.
        """
        key = self.find_key(layer, noise_level)
        numbers = np.arange(len(self)) if rows is None else np.asarray(rows, dtype=np.int64)
        out = np.empty((len(numbers), int(np.prod(self.shapes[key]))), np.float32)
        for start, x in self.blocks(key, numbers):
            inside = (numbers >= start) & (numbers < start + len(x))
            out[inside] = x.reshape(len(x), -1)[numbers[inside] - start]
        return out

    def blocks(
        self, key: str, rows: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Float[np.ndarray, "k *axes c"]]]:
        """Yield (number of its first row, features) of one shard after the other, in the memory of one; of those only
        that hold some of `rows`, if given."""
        numbers = np.arange(len(self)) if rows is None else np.asarray(rows)
        start = 0
        for shard, size in enumerate(self._sizes):
            if ((numbers >= start) & (numbers < start + size)).any():
                with self._open(shard) as file:
                    x = self._read(file, shard, key)
                yield start, x
            start += size

    def shards(self, keys: Sequence[str] | None = None) -> Iterator[tuple[list[BankRow], dict[str, np.ndarray]]]:
        """Yield rows and all features, or those of `keys`, of one shard after the other."""
        start = 0
        for shard, size in enumerate(self._sizes):
            with self._open(shard) as file:
                features = {key: self._read(file, shard, key) for key in (self.keys if keys is None else keys)}
            yield self.rows[start : start + size], features
            start += size

    def tokens(
        self, layer: str, noise_level: float | None = None, rows: Sequence[int] | None = None
    ) -> Float[np.ndarray, "n *axes c"]:
        """Return features as `X` does, with the axes that the pool left."""
        x = self.X(layer, noise_level, rows)
        return x.reshape(len(x), *self.shapes[self.find_key(layer, noise_level)])

    def find_key(self, layer: str, noise_level: float | None = None) -> str:
        """Return the key of a layer at a noise level. Raises VidgenError if there is none, or several."""
        if noise_level is None and "@" not in layer:
            keys = [key for key in self.keys if parse_key(key)[0] == layer]
            if len(keys) > 1:
                raise VidgenError(f"{layer} has several noise levels, choose one: {', '.join(keys)}")
        else:
            keys = [key for key in self.keys if key == feature_key(layer, noise_level)]
        if not keys:
            key = feature_key(layer, noise_level)
            raise VidgenError(f"{self.folder} has no features {key!r}; it has {', '.join(self.keys)}")
        return keys[0]

    @contextmanager
    def _open(self, shard: int) -> Iterator[SealedFile]:
        path = self.folder / f"{shard_stem(shard)}.safetensors"
        try:
            with open_sealed(path) as file:
                if file.seal != self.description[shard].seal:
                    for key in file.names:
                        self._check_finite(file.read(key), shard, key)
                    raise ValueError(f"it is not the file that {META_NAME} lists")
                yield file
        except ValueError as error:
            raise VidgenError(f"{path} is damaged ({error}); put it back, or extract the bank again") from None

    def _read(self, file: SealedFile, shard: int, key: str) -> np.ndarray:
        """Return features of a shard, checked when they are read first. Raises ValueError where they are damaged."""
        x = file.read(key)
        if (shard, key) not in self._checked:
            shape = (self._sizes[shard], *self.shapes[key])
            if x.shape != shape or x.dtype != np.float32:
                raise ValueError(f"features {key} are {x.dtype} {x.shape}, and float32 {shape} by its index")
            self._check_finite(x, shard, key)
            file.check(key, x)
            self._checked.add((shard, key))
        return x

    def _check_finite(self, x: np.ndarray, shard: int, key: str) -> None:
        finite = np.isfinite(x).reshape(len(x), -1).all(1)
        if not finite.all():
            row = self.rows[sum(self._sizes[:shard]) + int(finite.argmin())]
            raise ValueError(f"features {key} of clip {row.id!r} are not finite")
