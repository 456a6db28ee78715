"""Seals: files of tensors that say by checksums what was written, so that no accident passes for content.

The sums are CRC-32, for damage and mix-ups; what is published has SHA-256 (`checksums`). A file's seal is the sum of
all that its header says, the sums of its tensors among it. Files of earlier versions have none, and are read unchecked.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vidgen.files.bounded_files import load_json

BLOCK = 2**22  # bytes
ENTRY = "vidgen"  # of a file's metadata


def checksum(data: bytes | memoryview | np.ndarray) -> str:
    """Return the CRC-32 of bytes, or of an array's, as 8 hex digits."""
    if isinstance(data, np.ndarray):
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return f"{zlib.crc32(data):08x}"


def json_checksum(value: Any) -> str:
    """Return the CRC-32 of plain data, whatever the order of its keys."""
    return checksum(json.dumps(value, sort_keys=True).encode())


def file_checksum(path: Path) -> str:
    """Return the CRC-32 of a file. Raises OSError where it cannot be read."""
    total = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            total = zlib.crc32(block, total)
    return f"{total:08x}"


def save_sealed(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike,
    about: Mapping[str, Any] | None = None,
    *,
    entry: str = ENTRY,
) -> str:
    """Write tensors (of types that NumPy has) with plain data about them as one entry of metadata; return the seal."""
    described = {**(about or {}), "tensors": {name: _describe(x.detach().cpu().numpy()) for name, x in tensors.items()}}
    described["seal"] = json_checksum(described)
    # One entry: safetensors writes several in an order of chance, and the same tensors should be the same file.
    save_file(
        {name: x.contiguous() for name, x in tensors.items()},
        path,
        {entry: json.dumps(described, separators=(",", ":"))},
    )
    return described["seal"]


class SealedFile:
    """A file of `save_sealed`, open for reading; from `open_sealed`. `about` is the data beside the tensors, `seal` ""
    in a file that has none."""

    def __init__(self, file: safe_open, entry: str) -> None:
        self._file = file
        text = (file.metadata() or {}).get(entry)
        described = {} if text is None else load_json(text)
        if not isinstance(described, dict) or ("seal" in described) != ("tensors" in described):
            raise ValueError("its header is not as it was written")
        self.seal = described.pop("seal", "")
        if self.seal and self.seal != json_checksum(described):
            raise ValueError("its header is not as it was written")
        self._tensors = described.pop("tensors", None)
        self.about = described
        self.names = sorted(file.keys())
        if self._tensors is not None and self.names != sorted(self._tensors):
            raise ValueError(f"it holds {', '.join(self.names)}, not {', '.join(sorted(self._tensors))}")

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, of which nothing else is read."""
        return tuple(self._file.get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        """Return a tensor, which `check` has still to look at."""
        return self._file.get_tensor(name)

    def check(self, name: str, x: np.ndarray) -> None:
        """Raise ValueError unless `x` is the tensor as it was written."""
        if self._tensors is not None and _describe(x) != self._tensors[name]:
            raise ValueError(f"its {name} is not as it was written")


@contextmanager
def open_sealed(path: str | os.PathLike, *, entry: str = ENTRY) -> Iterator[SealedFile]:
    """Open a file of tensors. Raises ValueError, with the reason alone, for one that is missing, damaged or changed."""
    try:
        with safe_open(Path(path), framework="numpy") as file:
            yield SealedFile(file, entry)
    except (SafetensorError, OSError) as error:
        raise ValueError(" ".join(str(error).split())[:160]) from None


def _describe(x: np.ndarray) -> list[Any]:
    return [str(x.dtype), list(x.shape), checksum(x)]
