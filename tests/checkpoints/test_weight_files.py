"""Files of weights that cannot be read: the line says what they are."""

import pickle
import struct

import pytest
import torch
from safetensors.torch import save_file

import vidgen
from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.errors import VidgenError
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder

START = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
CONTENTS = {
    "is empty": b"",
    "is a web page": b"\n<!DOCTYPE html><html>Not found</html>",
    "is a git-LFS pointer, not the file itself; fetch that with `git lfs pull`": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 10\n"
    ),
    "is a GGUF file": b"GGUF" + bytes(100),
    "is a pickled file, which could run code": pickle.dumps({"a": 1}),
    "is an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "is JSON text, not weights": b'{"weight_map": {"a": "b", "c": "d"}}',
    r"is cut short: it has 66 bytes of 70": struct.pack("<Q", 54) + START + bytes(4),
    r"is cut short: it has 28 bytes of 62": struct.pack("<Q", 54) + START[:20],
    "is not a whole safetensors file": struct.pack("<Q", 54) + START.replace(b"[2]", b"[3]") + bytes(8),
}


@pytest.mark.parametrize("says", CONTENTS)
def test_a_file_says_what_it_is(tmp_path, says):
    path = tmp_path / "model.safetensors"
    path.write_bytes(CONTENTS[says])
    with pytest.raises(VidgenError, match=rf"^[^\n]*{says}[^\n]*$"):
        find_checkpoint(path)
    for load in (vidgen.load_tokenizer, vidgen.load_pipeline):
        with pytest.raises(VidgenError, match=says):
            load(str(path))


@pytest.mark.parametrize("name", ["Wan2.1_VAE.pth", "model.ckpt", "pytorch_model.bin", "a.pt", "a.pickle"])
def test_pickled_files_are_refused_by_name(tmp_path, monkeypatch, name):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was reached"))
    torch.save({"encoder.conv1.weight": torch.ones(3)}, tmp_path / name)
    for load in (vidgen.load_tokenizer, vidgen.load_pipeline):
        with pytest.raises(VidgenError, match=f"{name}' is a pickled file, which could run code when read"):
            load(str(tmp_path / name))


def test_what_lies_in_the_place_of_weights_is_named(tmp_path):
    folder = tmp_path / "text"
    ByteTextEncoder(ByteTextConfig(width=8, depth=1, head_dim=8)).save_pretrained(folder)
    weights = folder / "diffusion_pytorch_model.safetensors"
    variant = weights.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(VidgenError, match="is missing; diffusion_pytorch_model.fp16.safetensors .* variant 'fp16'"):
        ByteTextEncoder.from_pretrained(folder)
    variant.rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(VidgenError, match="is missing; diffusion_pytorch_model.bin in its place is a pickled file"):
        ByteTextEncoder.from_pretrained(folder)


PUBLISHED = {
    "the autoencoder of Wan under its authors' own names": {"encoder.conv1.weight": torch.ones(3)},
    "the transformer of Wan": {"model.diffusion_model.blocks.0.self_attn.q.weight": torch.ones(3)},
    "weights in float8": {"blocks.0.self_attn.q.weight": torch.ones(3).to(torch.float8_e4m3fn)},
}


@pytest.mark.parametrize("says", PUBLISHED)
def test_single_files_of_other_programs_are_known(tmp_path, says):
    save_file(PUBLISHED[says], tmp_path / "model.safetensors")
    for load in (vidgen.load_tokenizer, vidgen.load_pipeline):
        with pytest.raises(VidgenError, match=f"model.safetensors holds {says}.*; take the "):
            load(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint8])
def test_weights_that_are_no_fractions_are_named(tmp_path, dtype):
    folder = tmp_path / "text"
    model = ByteTextEncoder(ByteTextConfig(width=8, depth=1, head_dim=8))
    model.save_pretrained(folder)
    tensors = {**model.state_dict(), "norm.weight": torch.ones(8).to(dtype)}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    with pytest.raises(VidgenError, match="norm.weight is stored as .*, and weights are read of F64, F32, BF16, F16"):
        ByteTextEncoder.from_pretrained(folder)


def test_a_whole_file_beside_shards_is_a_question(tmp_path):
    save_file({"a": torch.ones(3)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(VidgenError, match="may differ; take one of them away"):
        find_checkpoint(tmp_path, "model.safetensors")
