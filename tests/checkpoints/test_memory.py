"""Weights against the memory that is free: refused before one is read, with what would fit."""

import pytest
import torch
from safetensors.torch import save_file

from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.checkpoints.memory import check_weights, describe_bytes, weight_bytes
from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig


@pytest.fixture
def free(monkeypatch):
    """`free(n)`: from then on so many bytes are free."""
    return lambda count: monkeypatch.setattr("vidgen.checkpoints.memory.free_bytes", lambda device: count)


def test_bytes_are_said_as_they_are_given():
    assert [describe_bytes(n) for n in (1, 10**6, 999_950_001, 4 * 10**9)] == ["0.1MB", "1.0MB", "1000.0MB", "4.0GB"]


def test_bytes_of_weights_in_another_precision():
    tensors = [(10, torch.float32), (7, torch.bfloat16), (3, torch.int64)]
    assert weight_bytes(tensors, None) == 10 * 4 + 7 * 2 + 3 * 8
    assert weight_bytes(tensors, torch.float32) == 17 * 4 + 24 and weight_bytes(tensors, torch.bfloat16) == 17 * 2 + 24


def test_what_would_fit_is_said(free, tmp_path):
    tensors = [(10**9, torch.float32)]
    free(None)
    check_weights(tmp_path, tensors, None, "cpu")
    free(4 * 10**9)
    check_weights(tmp_path, tensors, None, "cpu")
    for count, dtype, line in (
        (3, None, "take 4.0GB as stored, and 3.0GB are free on cpu; in bfloat16 they would fit, with 2.0GB"),
        (3, torch.float64, "take 8.0GB in float64, and 3.0GB are free on cpu; in bfloat16 they would fit, with 2.0GB"),
        (1, torch.float32, "take 4.0GB in float32, and 1.0GB are free on cpu; 2.0GB at least are wanted: free some"),
        (1, torch.bfloat16, "take 2.0GB in bfloat16, and 1.0GB are free on cpu; 2.0GB at least are wanted: free some"),
    ):
        free(count * 10**9)
        with pytest.raises(VidgenError, match=f"^{tmp_path}: its weights {line}"):
            check_weights(tmp_path, tensors, dtype, "cpu")


def test_a_model_that_does_not_fit_is_refused_before_a_tensor_is_read(free, tmp_path, monkeypatch):
    model = VideoDiT(VideoDiTConfig(width=16, depth=1, head_dim=16, text_width=8))
    model.save_pretrained(tmp_path / "dit")
    needed = sum(4 * parameter.numel() for parameter in model.parameters())
    free(needed)
    VideoDiT.from_pretrained(tmp_path / "dit")
    free(needed - 1)
    monkeypatch.setattr("vidgen.checkpoints.pretrained.put", lambda *_: pytest.fail("a tensor was read"))
    with pytest.raises(VidgenError, match="as stored, and .* are free on cpu; in bfloat16 they would fit"):
        VideoDiT.from_pretrained(tmp_path / "dit")


def test_every_precision_of_a_file_is_counted(free, tmp_path):
    kinds = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.int64, torch.uint8)
    tensors = {str(kind): torch.zeros(1000, dtype=kind) for kind in kinds}
    save_file(tensors, tmp_path / "x.safetensors")
    checkpoint = find_checkpoint(tmp_path / "x.safetensors")
    free(26_000)
    checkpoint.check_memory(None, "cpu")
    free(25_999)
    with pytest.raises(VidgenError, match="its weights take 0.1MB as stored"):
        checkpoint.check_memory(None, "cpu")
