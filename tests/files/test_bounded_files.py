"""Files that are read whole: what is no regular file, too large, or JSON that cannot be written again is one line."""

import json
import os
import socket
from pathlib import Path

import pytest

from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import CONFIG_BYTES, parse_json, read_json, read_text
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_socket(path: Path) -> None:
    before = os.getcwd()
    os.chdir(path.parent)  # its address may not be long
    try:
        with socket.socket(socket.AF_UNIX) as endpoint:
            endpoint.bind(path.name)
    finally:
        os.chdir(before)


STRANGE = {"a named pipe": os.mkfifo, "a device": make_device, "a socket": make_socket, "a folder": os.mkdir}


@pytest.mark.parametrize("name", ["config.json", "diffusion_pytorch_model.safetensors"])
@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_file_is_not_opened(tmp_path, name, what):
    folder = tmp_path / "model"
    ByteTextEncoder(ByteTextConfig(width=8, depth=1, head_dim=8)).save_pretrained(folder)
    (folder / name).unlink()
    STRANGE[what](folder / name)
    with pytest.raises(VidgenError, match=f"{name} is {what}, and a regular file is wanted"):
        ByteTextEncoder.from_pretrained(folder)


def test_a_single_file_of_weights_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(VidgenError, match="is a named pipe"):
        find_checkpoint(tmp_path / "model.safetensors")


def test_a_sparse_file_is_not_read_whole(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(8 * 2**30)
    with pytest.raises(VidgenError, match="has over 10 MiB"):
        read_json(path)
    path.write_bytes(b" " * CONFIG_BYTES)
    assert len(read_text(path)) == CONFIG_BYTES


DAMAGED = {
    "nested over 64 levels deep": '{"a": ' + "[" * 65 + "]" * 65 + "}",
    "nested over 64": "[" * 100_000,
    "nan is no number of JSON": '{"a": NaN}',
    "-inf is no number": '{"a": [-Infinity]}',
    "inf is no number": '{"a": 1e999}',
    "the key 'a' stands twice": '{"b": {"a": 1, "a": 2}}',
    "half of a surrogate pair": r'{"a": "\ud800"}',
    "half of a surrogate": r'{"\udc80": 1}',
    "Exceeds the limit": '{"a": ' + "9" * 5000 + "}",
    "Expecting": "{",
}


@pytest.mark.parametrize("says", DAMAGED)
def test_json_that_could_not_be_written_again_is_one_line(tmp_path, says):
    path = tmp_path / "config.json"
    path.write_text(DAMAGED[says])
    with pytest.raises(VidgenError, match=rf"^[^\n]*{says}[^\n]*$"):
        read_json(path)


def test_what_passes_is_what_was_written(tmp_path):
    values = {"a": [1, 2.5, None, True, "\U0001f600é"], "b": {"c": -(10**30)}}
    path = tmp_path / "config.json"
    for text in (json.dumps(values), json.dumps(values, ensure_ascii=False)):
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert read_json(path) == values == parse_json(text)
