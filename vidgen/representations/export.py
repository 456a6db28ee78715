"""A bank for other tools: NumPy files, one parquet table, or a data set of Hugging Face's library, shard by shard."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.json_lines import json_line
from vidgen.representations.bank import BankRow, FeatureBank

if TYPE_CHECKING:
    import pyarrow

META_KEY = b"vidgen"  # in a table's schema: JSON of the bank's meta and of the shape of every feature


def to_numpy(bank: FeatureBank, folder: str | os.PathLike) -> Path:
    """Write and return a folder of one .npy a feature (n, *axes), float32, for numpy.load(..., mmap_mode="r").

    Beside them are rows.jsonl, a line a row, and bank.json, which names the file of each feature. Memory is that of
    one shard. Raises VidgenError for a folder that exists.
    """
    folder = check_new(folder)
    names = {key: f"{key.replace('/', '~')}.npy" for key in bank.keys}
    with atomic_write(folder) as target:
        target.mkdir()
        for key, name in names.items():
            shape = (len(bank), *bank.shapes[key])
            array = np.lib.format.open_memmap(target / name, mode="w+", dtype=np.float32, shape=shape)
            for start, x in bank.blocks(key):
                array[start : start + len(x)] = x
            array.flush()
            del array
        lines = [json_line(dataclasses.asdict(row)) for row in bank.rows]
        (target / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
        description = {"meta": bank.meta, "files": names}
        (target / "bank.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return folder


def to_parquet(bank: FeatureBank, file: str | os.PathLike) -> Path:
    """Write and return a table with a row a clip: id, label, split, group, times, "labels.<name>", and every feature.

    Features are flattened, as lists of fixed length under their keys; see `META_KEY` for their shapes. Raises
    VidgenError where pyarrow is not installed, and for a file that exists.
    """
    need("pyarrow", "parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = check_new(file)
    columns = [name for name in bank.columns if name != "label"]
    shapes = {key: list(shape) for key, shape in bank.shapes.items()}
    about = {META_KEY: json.dumps({"meta": bank.meta, "shapes": shapes}).encode()}
    fields = [(name, pa.string()) for name in ("id", "label", "split", "group")]
    fields += [("times", pa.list_(pa.float64())), *((f"labels.{name}", pa.string()) for name in columns)]
    fields += [(key, pa.list_(pa.float32(), int(np.prod(bank.shapes[key])))) for key in bank.keys]
    schema = pa.schema(fields, metadata=about)
    with atomic_write(file) as target, pq.ParquetWriter(target, schema) as writer:
        for rows, features in bank.shards():
            writer.write_table(pa.table(table_columns(rows, columns, features, pa), schema=schema))
    return file


def table_columns(
    rows: list[BankRow], columns: list[str], features: dict[str, np.ndarray], pa: pyarrow
) -> dict[str, Any]:
    """Return the columns of one shard; its features are not copied."""
    table: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in ("id", "label", "split", "group")}
    table["times"] = [list(row.times) for row in rows]
    table |= {f"labels.{name}": [row.labels.get(name) for row in rows] for name in columns}
    for key, x in features.items():
        width = int(np.prod(x.shape[1:]))
        table[key] = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), width)
    return table


def to_datasets(bank: FeatureBank, folder: str | os.PathLike) -> Path:
    """Write and return a folder for `datasets.load_from_disk`, with the columns of `to_parquet`.

    Raises VidgenError where the library is not installed, and for a folder that exists.
    """
    need("datasets", "datasets")
    from datasets import Dataset

    folder = check_new(folder)
    with tempfile.TemporaryDirectory() as scratch, atomic_write(folder) as target:
        table = to_parquet(bank, Path(scratch) / "bank.parquet")
        dataset = Dataset.from_parquet(str(table), cache_dir=scratch)
        dataset.save_to_disk(str(target))
        del dataset  # its files lie in the scratch folder
    return folder


EXPORTS: dict[str, Callable[[FeatureBank, str | os.PathLike], Path]] = {
    "numpy": to_numpy,
    "parquet": to_parquet,
    "datasets": to_datasets,
}


def need(package: str, what: str) -> None:
    """Raise VidgenError unless `package` is installed."""
    if find_spec(package) is None:
        raise VidgenError(f"a bank as {what} needs {package}, which is not installed; pip install 'vidgen[export]'")


def check_new(path: str | os.PathLike) -> Path:
    """Return `path`. Raises VidgenError if there is something there already."""
    path = Path(path)
    if path.exists():
        raise VidgenError(f"{path} exists already; export to a new name")
    return path
