"""Passes: the estimate of a pass's memory holds what a pass really takes, and decides between one and several."""

import pytest
import torch

from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import TextEncoding
from vidgen.profiling.live_memory import LiveBytes
from vidgen.samplers.guidance import batched_guidance as memory
from vidgen.samplers.guidance.batched_guidance import activation_bytes, batched, fits_batched

CPU = torch.device("cpu")


@pytest.mark.parametrize(("width", "depth", "dtype"), [(64, 2, torch.float32), (128, 1, torch.bfloat16)])
def test_a_pass_takes_no_more_than_is_estimated_and_not_much_less(width, depth, dtype):
    torch.manual_seed(0)
    config = VideoDiTConfig(latent_channels=4, width=width, depth=depth, head_dim=32, text_width=16)
    network = VideoDiT(config).to(dtype).eval()
    x, text = torch.randn(2, 4, 3, 16, 16), TextEncoding(tokens=torch.randn(2, 5, 16), mask=torch.ones(2, 5).bool())
    text = TextEncoding(tokens=text.tokens.to(dtype), mask=text.mask)
    with torch.inference_mode(), LiveBytes() as live:
        network(x, torch.tensor([0.3, 0.6]), text)
    estimate = activation_bytes(network, 2 * 3 * 8 * 8)
    assert live.peak <= estimate <= 3 * live.peak


def test_what_is_no_module_takes_nothing():
    assert activation_bytes(lambda x, t: x, 10**9) == 0


@pytest.mark.parametrize(("free", "fits"), [(2000, True), (1999, False), (None, False)])
def test_half_of_the_free_memory_may_go(monkeypatch, free, fits):
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    monkeypatch.setattr(memory, "activation_bytes", lambda network, tokens: 10 * tokens)
    assert fits_batched(None, 100, CPU) is fits


@pytest.mark.parametrize(("device", "fits"), [("cpu", False), ("cuda", True)])
def test_large_passes_gain_nothing_on_a_cpu(monkeypatch, device, fits):
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**40)
    monkeypatch.setattr(memory, "activation_bytes", lambda network, tokens: 2**20 * tokens)
    assert fits_batched(None, 65, torch.device(device)) is fits and fits_batched(None, 64, torch.device(device))


def test_views_are_what_each_estimate_is_shown():
    both = batched(lambda x, t: x * t[:, None], 2, [lambda x, t: (x, t), lambda x, t: (-x, 2 * t)])
    x = torch.tensor([[1.0], [3.0]])
    one, two = both(x, torch.tensor(0.25))
    assert torch.equal(one, 0.25 * x) and torch.equal(two, -0.5 * x)
