"""Sealed files: every change of a byte is named, or changes nothing that is read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgen.files.seals import checksum, file_checksum, open_sealed, save_sealed

TENSORS = {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.tensor([7], dtype=torch.uint8)}
ABOUT = {"rows": 2, "names": ["ü", "\u2028"]}


def contents(path: Path) -> tuple:
    """All that a file gives back."""
    with open_sealed(path) as file:
        tensors = {name: file.read(name) for name in file.names}
        for name, x in tensors.items():
            file.check(name, x)
        return file.about, {name: (x.dtype, x.tolist()) for name, x in tensors.items()}


def test_known_sums(tmp_path: Path) -> None:
    assert checksum(b"123456789") == "cbf43926"  # the check value of CRC-32
    assert checksum(np.frombuffer(b"123456789", np.uint8)) == "cbf43926"
    assert checksum(np.zeros((0, 3), np.float32)) == checksum(b"")
    (tmp_path / "x").write_bytes(b"123456789")
    assert file_checksum(tmp_path / "x") == "cbf43926"


def test_what_is_written_is_read_and_the_same_is_the_same_file(tmp_path: Path) -> None:
    seal = save_sealed(TENSORS, tmp_path / "x", ABOUT)
    about, tensors = contents(tmp_path / "x")
    assert about == ABOUT and tensors["a"][1] == TENSORS["a"].tolist() and tensors["b"][1] == [7]
    assert save_sealed(TENSORS, tmp_path / "y", ABOUT) == seal
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    assert save_sealed(TENSORS, tmp_path / "y", {}) != seal


def test_every_byte_counts(tmp_path: Path) -> None:
    save_sealed(TENSORS, tmp_path / "x", ABOUT)
    truth, data = contents(tmp_path / "x"), (tmp_path / "x").read_bytes()
    harmless = 0
    for place in range(len(data)):
        for bits in (0x01, 0x10, 0xFF):
            changed = bytearray(data)
            changed[place] ^= bits
            (tmp_path / "y").write_bytes(changed)
            try:
                # Without its entry a file is one of before there were seals: what it holds is as it was.
                assert contents(tmp_path / "y") in (truth, ({}, truth[1])), place
                harmless += 1
            except ValueError as error:
                assert "\n" not in str(error)
        (tmp_path / "y").write_bytes(data[:place])
        with pytest.raises(ValueError):
            contents(tmp_path / "y")
    assert harmless < len(data) / 10


def test_tensors_of_another_file_are_named(tmp_path: Path) -> None:
    save_sealed(TENSORS, tmp_path / "x")
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data.replace(b'"a":{"dtype":"F32"', b'"a":{"dtype":"I32"'))
    with pytest.raises(ValueError, match="a is not as it was written"):
        contents(tmp_path / "x")
    save_file(load_file(tmp_path / "x") | {"c": torch.zeros(1)}, tmp_path / "y")
    assert set(contents(tmp_path / "y")[1]) == {"a", "b", "c"}  # of before there were seals
    with pytest.raises(ValueError, match="No such file"):
        contents(tmp_path / "none")
