"""SHA-256 of files: said in every form that is usual, and held against what lies there before anything is read."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vidgen.checkpoints.checkpoint import WEIGHTS_NAME
from vidgen.errors import VidgenError
from vidgen.files import checksums
from vidgen.files.checksums import check_sums, published_sums, sum_file
from vidgen.lora.files import read_lora
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig

OTHER = "0" * 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 100)
    return tmp_path / "model.safetensors"


def told(file: Path, form: str, value: str) -> None:
    """Writes down beside `file` that its sum is `value`."""
    folder = file.parent
    if form == "index":
        text = json.dumps({"metadata": {"sha256": {file.name: value}}, "weight_map": {}})
        (folder / "model.safetensors.index.json").write_text(text)
    elif form == "bare":
        (folder / f"{file.name}.sha256").write_text(value.upper())
    elif form == "list":
        (folder / "all.sha256").write_text(f"# sums\n\n{OTHER}  another.bin\n{value} *./{file.name}\n")
    elif form == "bsd":
        (folder / "all.sha256").write_text(f"SHA256 ({file.name}) = {value}\n")
    else:
        (folder / "blobs").mkdir()
        file.rename(folder / "blobs" / value)
        file.symlink_to(folder / "blobs" / value)


@pytest.mark.parametrize("form", ["index", "bare", "list", "bsd", "hub"])
def test_every_form_is_read(file, form):
    value = hashlib.sha256(file.read_bytes()).hexdigest()
    told(file, form, value)
    check_sums([file, file.with_name("absent")])
    if form == "hub":
        file.unlink()
        (file.parent / "blobs" / value).rename(file.parent / "blobs" / OTHER)
        file.symlink_to(file.parent / "blobs" / OTHER)
    else:
        told(file, form, OTHER)
    where = {"index": "index.json", "hub": "its name in the hub's cache"}.get(form, ".sha256")
    with pytest.raises(
        VidgenError, match=rf"^{file} is not what[^\n]*is {value[:16]}..., and 0{{16}}[^\n]*{where}[^\n]*$"
    ):
        check_sums([file])


def test_a_file_is_read_again_only_when_it_changed(file, monkeypatch):
    before, read = sum_file(file), []
    monkeypatch.setattr(checksums.hashlib, "sha256", lambda: read.append(1) or hashlib.new("sha256"))
    assert sum_file(file) == before and not read
    file.write_bytes(b"other")
    assert sum_file(file) == hashlib.new("sha256", b"other").hexdigest() and read


def test_what_says_nothing_and_what_is_no_sum(file):
    (file.parent / "x.index.json").write_text("{")
    (file.parent / "y.index.json").write_text('{"metadata": {"sha256": {"a": 3}}}')
    assert published_sums(file.parent) == {}
    check_sums([file])
    (file.parent / "sums.sha256").write_text("hello")
    with pytest.raises(VidgenError, match="sums.sha256: 'hello' is no SHA-256 and file name"):
        check_sums([file])


def test_no_tensor_is_read_of_a_file_that_is_another(tmp_path, monkeypatch):
    folder = tmp_path / "dit"
    VideoDiT(VideoDiTConfig(width=16, depth=1, head_dim=16, text_width=8)).save_pretrained(folder)
    told(folder / WEIGHTS_NAME, "bare", hashlib.sha256((folder / WEIGHTS_NAME).read_bytes()).hexdigest())
    VideoDiT.from_pretrained(folder)
    data = bytearray((folder / WEIGHTS_NAME).read_bytes())
    data[-1] ^= 1  # one bit of one weight: still a whole safetensors file
    (folder / WEIGHTS_NAME).write_bytes(data)
    monkeypatch.setattr("vidgen.checkpoints.pretrained.put", lambda *_: pytest.fail("a tensor was read"))
    with pytest.raises(VidgenError, match="is not what was published"):
        VideoDiT.from_pretrained(folder)


def test_a_lora_is_held_against_its_sum_too(tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file({"x.lora_A.weight": torch.ones(1, 2), "x.lora_B.weight": torch.ones(2, 1)}, path)
    told(path, "bare", OTHER)
    with pytest.raises(VidgenError, match="is not what was published"):
        read_lora(path)
