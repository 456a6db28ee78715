"""Whatever happens to a bank's files, it gives back what was written or says in one line what is wrong."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vidgen.errors import VidgenError
from vidgen.files.atomic import SCRATCH
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank

SHARDS, ROWS = 3, 4
FEATURES = {"a": (3,), "b@t=0.10": (2, 2)}


def write_bank(folder: Path, seed: int = 0, last: int = SHARDS * ROWS) -> Path:
    with BankWriter(folder, {"keys": list(FEATURES), "seed": 0}, shard_rows=ROWS) as writer:
        for i in range(last):
            row = BankRow(id=f"{i}.mp4", label="ab"[i % 2], split="train", times=(0.0, i / 8), labels={"camera": "x"})
            generator = torch.Generator().manual_seed(1000 * seed + i)
            writer.add([row], {key: torch.randn(1, *shape, generator=generator) for key, shape in FEATURES.items()})
    return folder


def make_older(folder: Path) -> Path:
    """A bank as versions before checksums wrote it."""
    described = json.loads((folder / "bank.json").read_text())
    for name in ("rows", "shards"):
        described.pop(name)
    (folder / "bank.json").write_text(json.dumps(described, indent=2) + "\n")
    for shard in folder.glob("*.safetensors"):
        save_file(load_file(shard), shard)
    return folder


def contents(folder: Path) -> list:
    """All that a bank gives back; equal lists are equal banks."""
    bank = FeatureBank.load(folder)
    return [bank.rows, bank.meta, {key: bank.X(key).tolist() for key in bank.keys}]


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("banks")
    return write_bank(folder / "bank"), write_bank(folder / "other", seed=1)


@given(seed=st.integers(0, 2**32))
def test_no_change_passes_for_content(banks: tuple[Path, Path], tmp_path: Path, fuzzing: dict, seed: int) -> None:
    fuzzing["check_folder"](*banks, tmp_path / "copy", seed, contents, VidgenError)


@pytest.mark.parametrize("suffixes", [(".jsonl",), (".safetensors",), (".jsonl", ".safetensors")])
def test_shards_in_each_others_place_are_not_taken(banks: tuple[Path, Path], tmp_path: Path, suffixes) -> None:
    copy = shutil.copytree(banks[0], tmp_path / "bank")
    for suffix in suffixes:
        first, second = copy / f"shard-00000{suffix}", copy / f"shard-00002{suffix}"
        first.rename(copy / "aside")
        second.rename(first)
        (copy / "aside").rename(second)
    with pytest.raises(VidgenError, match=r"not as it was written|not the file that bank\.json lists"):
        contents(copy)


def test_a_line_of_the_index_gone_is_named(banks: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(banks[0], tmp_path / "bank")
    index = copy / "shard-00001.jsonl"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(VidgenError, match="shard-00001.jsonl is not as it was written"):
        FeatureBank.load(copy)
    make_older(copy)
    with pytest.raises(VidgenError, match=r"shard-00001.* \(4, 3\), and float32 \(3, 3\) by its index"):
        FeatureBank.load(copy).X("a")


@pytest.mark.parametrize("older", [False, True])
def test_nan_is_named_by_clip_and_layer(banks: tuple[Path, Path], tmp_path: Path, older: bool) -> None:
    copy = shutil.copytree(banks[0], tmp_path / "bank")
    if older:
        make_older(copy)
    shard = copy / "shard-00001.safetensors"
    tensors = load_file(shard)
    tensors["b@t=0.10"][2, 1, 0] = float("nan")
    save_file(tensors, shard)
    with pytest.raises(VidgenError, match="shard-00001.*features b@t=0.10 of clip '6.mp4' are not finite") as error:
        FeatureBank.load(copy).X("b")
    one_line(error)


def test_a_bank_of_an_earlier_version_loads_and_goes_on(banks: tuple[Path, Path], tmp_path: Path) -> None:
    truth = contents(banks[0])
    older = make_older(write_bank(tmp_path / "bank", last=2 * ROWS))
    assert len(FeatureBank.load(older)) == 2 * ROWS
    write_bank(older)
    assert contents(older) == truth
    (older / "shard-00000.jsonl").write_text((older / "shard-00001.jsonl").read_text())
    with pytest.raises(VidgenError, match="not as it was written"):
        FeatureBank.load(older)


def test_a_shard_that_is_not_listed_yet_does_not_count_and_is_written_again(
    banks: tuple[Path, Path], tmp_path: Path
) -> None:
    """As a kill leaves it between the shard and bank.json."""
    whole = banks[0]
    copy = shutil.copytree(write_bank(tmp_path / "part", last=2 * ROWS), tmp_path / "bank")  # not swept yet
    for file in whole.glob("shard-00002.*"):
        shutil.copy(file, copy / file.name)
    (copy / f"{SCRATCH}x").mkdir()
    assert len(FeatureBank.load(copy)) == 2 * ROWS
    write_bank(copy)
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }


def test_two_writers_of_one_bank_are_refused_by_name(tmp_path: Path) -> None:
    first = BankWriter(tmp_path / "bank", {"m": 1})
    with pytest.raises(VidgenError, match="bank: this bank is being written by process"):
        BankWriter(tmp_path / "bank", {"m": 1})
    with first:
        first.add([BankRow(id="a")], {"x": torch.zeros(1, 2)})
    with BankWriter(tmp_path / "bank", {"m": 1}) as second:
        second.add([BankRow(id="b")], {"x": torch.ones(1, 2)})
    bank = FeatureBank.load(tmp_path / "bank")
    assert bank.ids == ["a", "b"]
    np.testing.assert_array_equal(bank.X("x"), [[0, 0], [1, 1]])
    assert not list(tmp_path.glob(".*"))
