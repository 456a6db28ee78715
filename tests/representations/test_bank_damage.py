"""Whatever happens to a bank's files, it gives back what was written or says in one line what is wrong."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
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


# Each takes the bank, another of other features, and a source of chance.


def delete_line(bank: Path, other: Path, rng: random.Random) -> None:
    edit_lines(bank, rng, lambda lines, i, j: lines.pop(i))


def swap_lines(bank: Path, other: Path, rng: random.Random) -> None:
    edit_lines(bank, rng, lambda lines, i, j: lines.__setitem__(slice(None), swapped(lines, i, j)))


def duplicate_line(bank: Path, other: Path, rng: random.Random) -> None:
    edit_lines(bank, rng, lambda lines, i, j: lines.insert(j, lines[i]))


def edit_id(bank: Path, other: Path, rng: random.Random) -> None:
    file = rng.choice(sorted(bank.glob("*.jsonl")))
    lines = file.read_text().splitlines()
    i = rng.randrange(len(lines))
    lines[i] = json.dumps(json.loads(lines[i]) | {"id": rng.choice(["0.mp4", "new.mp4"])})
    file.write_text("\n".join(lines) + "\n")


def truncate(bank: Path, other: Path, rng: random.Random) -> None:
    file = rng.choice(sorted(bank.iterdir()))
    file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])


def flip_byte(bank: Path, other: Path, rng: random.Random) -> None:
    file = rng.choice(sorted(bank.iterdir()))
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    file.write_bytes(data)


def drop_file(bank: Path, other: Path, rng: random.Random) -> None:
    rng.choice(sorted(bank.iterdir())).unlink()


def drop_shard(bank: Path, other: Path, rng: random.Random) -> None:
    number = rng.randrange(SHARDS)
    for file in bank.glob(f"shard-{number:05d}.*"):
        file.unlink()


def swap_shards(bank: Path, other: Path, rng: random.Random) -> None:
    suffixes = rng.choice([[".jsonl"], [".safetensors"], [".jsonl", ".safetensors"]])
    one, two = rng.sample(range(SHARDS), 2)
    for suffix in suffixes:
        first, second = bank / f"shard-{one:05d}{suffix}", bank / f"shard-{two:05d}{suffix}"
        first.rename(bank / "aside")
        second.rename(first)
        (bank / "aside").rename(second)


def take_anothers(bank: Path, other: Path, rng: random.Random) -> None:
    for file in rng.choice([["*.jsonl"], ["*.safetensors"], ["*1.jsonl", "*1.safetensors"]]):
        source = rng.choice(sorted(other.glob(file)))
        shutil.copy(source, bank / source.name)


def change_dtype(bank: Path, other: Path, rng: random.Random) -> None:
    file = rng.choice(sorted(bank.glob("*.safetensors")))
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"I32"', 1))


def set_nan(bank: Path, other: Path, rng: random.Random) -> None:
    file = rng.choice(sorted(bank.glob("*.safetensors")))
    tensors = load_file(file)
    rng.choice(list(tensors.values())).view(-1)[rng.randrange(ROWS)] = float(rng.choice(["nan", "inf"]))
    save_file(tensors, file)


def swapped(lines: list, i: int, j: int) -> list:
    lines = list(lines)
    lines[i], lines[j] = lines[j], lines[i]
    return lines


def edit_lines(bank: Path, rng: random.Random, edit) -> None:
    file = rng.choice([*bank.glob("*.jsonl"), bank / "bank.json"])
    lines = file.read_text().splitlines()
    edit(lines, rng.randrange(len(lines)), rng.randrange(len(lines)))
    file.write_text("\n".join(lines) + "\n")


MUTATIONS = (
    *(delete_line, swap_lines, duplicate_line, edit_id, truncate, flip_byte, drop_file, drop_shard, swap_shards),
    *(take_anothers, change_dtype, set_nan),
)


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("banks")
    return write_bank(folder / "bank"), write_bank(folder / "other", seed=1)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_no_change_passes_for_content(banks: tuple[Path, Path], tmp_path: Path, mutate) -> None:
    bank, other = banks
    truth = contents(bank)
    for seed in range(4):
        copy = shutil.copytree(bank, tmp_path / f"{seed}")
        mutate(copy, other, random.Random(seed))
        try:
            assert contents(copy) == truth
        except VidgenError as error:
            assert "\n" not in str(error) and str(copy) in str(error)


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
