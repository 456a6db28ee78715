"""What other tools read is what the bank holds; without those tools, one line says what to install."""

import json

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.export import META_KEY, to_datasets, to_numpy, to_parquet


@pytest.fixture
def bank(tmp_path):
    """Seven rows in three shards; a feature with axes, and labels that not all clips have."""
    with BankWriter(tmp_path / "bank", {"model_hash": "abc", "keys": ["a/latents", "pooled"]}, shard_rows=3) as writer:
        for i in range(7):
            labels = {"colour": "red"} if i % 2 else {}
            row = BankRow(id=f"{i}.mp4", label=None if i == 3 else "xy"[i % 2], times=(0.0, i / 8), labels=labels)
            values = torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(i))
            writer.add([row], {"a/latents": values, "pooled": values[:, 0]})
    return FeatureBank.load(tmp_path / "bank")


def test_arrays_are_mapped_and_say_what_they_are(bank, tmp_path):
    folder = to_numpy(bank, tmp_path / "arrays")
    about = json.loads((folder / "bank.json").read_text())
    assert about["meta"] == bank.meta and about["files"] == {"a/latents": "a~latents.npy", "pooled": "pooled.npy"}
    for key, name in about["files"].items():
        array = np.load(folder / name, mmap_mode="r", allow_pickle=False)
        assert isinstance(array, np.memmap) and array.dtype == np.float32
        np.testing.assert_array_equal(array, bank.tokens(key))
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [BankRow(**{**row, "times": tuple(row["times"])}) for row in rows] == bank.rows
    with pytest.raises(VidgenError, match="arrays exists already"):
        to_numpy(bank, folder)


def test_a_table_has_a_row_a_clip(bank, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    file = to_parquet(bank, tmp_path / "bank.parquet")
    table = parquet.read_table(file)
    assert table.column_names == [*("id", "label", "split", "group", "times", "labels.colour"), *bank.keys]
    assert parquet.ParquetFile(file).num_row_groups == 3
    assert table["id"].to_pylist() == bank.ids and table["label"].to_pylist() == bank.y.tolist()
    assert table["labels.colour"].to_pylist() == bank.column("colour")
    assert [tuple(times) for times in table["times"].to_pylist()] == [row.times for row in bank.rows]
    about = json.loads(table.schema.metadata[META_KEY])
    for key in bank.keys:
        found = np.array(table[key].to_pylist(), np.float32).reshape(7, *about["shapes"][key])
        np.testing.assert_array_equal(found, bank.tokens(key))
    assert about["meta"] == bank.meta


def test_a_data_set_of_hugging_face_has_the_same_columns(bank, tmp_path):
    datasets = pytest.importorskip("datasets")
    found = datasets.load_from_disk(str(to_datasets(bank, tmp_path / "set")))
    assert len(found) == 7 and found["id"][:] == bank.ids and found["labels.colour"][:] == bank.column("colour")
    np.testing.assert_array_equal(np.array(found["pooled"][:], np.float32), bank.X("pooled"))
    rows = found.with_format("numpy")[2:4]
    np.testing.assert_array_equal(rows["a/latents"], bank.X("a/latents", rows=[2, 3]))


@pytest.mark.parametrize(("export", "package"), [(to_parquet, "pyarrow"), (to_datasets, "datasets")])
def test_what_is_not_installed_is_named(bank, tmp_path, monkeypatch, export, package):
    monkeypatch.setattr("vidgen.representations.export.find_spec", lambda name: None)
    with pytest.raises(VidgenError, match=rf"needs {package}, which is not installed; pip install 'vidgen\[export\]'"):
        export(bank, tmp_path / "out")
    assert not (tmp_path / "out").exists()
