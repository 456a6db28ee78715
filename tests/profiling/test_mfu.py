"""FLOPs of a training step against closed forms and torch's own counter; counting changes no number."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.profiling import mfu
from vidgen.profiling.mfu import FlopCounter, Utilization, peak_gflops
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Utilization:
    """On a machine that makes a GFLOP a second."""
    monkeypatch.setattr(mfu, "peak_gflops", lambda device, precision: 1.0)
    return Utilization("cpu", "float32")


def test_a_linear_layer_forward_and_backward(meter: Utilization) -> None:
    layer, x = nn.Linear(8, 16), torch.randn(32, 8)
    with meter.counted({"x": x, "captions": ["a"]}):
        layer(x)
    # x W, and of it the gradient by W; x needs none.
    assert meter.of({"x": x, "captions": ["b"]}, 0.5) == pytest.approx(2 * (2 * 32 * 8 * 16) / 1e9 / 0.5)


def test_attention(meter: Utilization) -> None:
    q, k, v = (torch.randn(2, 3, n, 8, requires_grad=n == 10) for n in (10, 7, 7))
    product = 2 * 2 * 3 * 10 * 7 * 8
    for enabled, products in ((True, 3 * 2), (False, 2)):
        with torch.set_grad_enabled(enabled), meter.counted([q, k, v]):
            F.scaled_dot_product_attention(q, k, v)
        assert meter.of([q, k, v], 1.0) == pytest.approx(products * product / 1e9)
        meter.forget()


@pytest.mark.parametrize("kind", ["tokenizer", "denoiser"])
def test_torch_counts_as_much_in_a_whole_model(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "tokenizer":
        model, x = VideoTokenizer(PRESETS["tiny"]), torch.rand(2, 3, 5, 16, 16) * 2 - 1
        inputs = (x,)
    else:
        model = VideoDiT(
            VideoDiTConfig(latent_channels=4, patch=(1, 1, 1), width=32, depth=2, head_dim=16, text_width=0)
        )
        inputs = (torch.randn(2, 4, 2, 4, 4), torch.rand(2))
    with FlopCounter() as ours:
        loss = model(*inputs).square().sum()
    model.zero_grad()
    with FlopCounterMode(display=False) as theirs, sdpa_kernel(SDPBackend.MATH):
        model(*inputs).square().sum().backward()
    assert loss.requires_grad and ours.total == pytest.approx(theirs.get_total_flops(), rel=0.01)


def test_every_shape_is_counted_once_until_forgotten(meter: Utilization) -> None:
    one, two = torch.randn(4, 8), torch.randn(2, 8)
    weight = torch.randn(8, 8)
    for _ in range(2):
        for x in (one, two):
            with meter.counted(x):
                x @ weight
    assert meter.of(one, 1.0) == 2 * meter.of(two, 1.0) == pytest.approx(2 * 4 * 64e-9)
    with meter.counted(one):
        one @ weight @ weight  # its shape is known
    assert meter.of(one, 1.0) == pytest.approx(2 * 4 * 64e-9)
    meter.forget()
    with meter.counted(one):
        torch.matmul(one, weight).matmul(weight)
    assert meter.of(one, 1.0) == pytest.approx(2 * 2 * 4 * 64e-9)


def test_the_peak_is_measured_once() -> None:
    assert peak_gflops("cpu", "float32") == peak_gflops("cpu", "float32") > 0


def test_a_share_above_one_is_no_share(meter: Utilization) -> None:
    batch = {"x": torch.ones(4, 8)}
    with meter.counted(batch):
        torch.nn.functional.linear(batch["x"], torch.ones(8, 8))
    flops = 2 * 4 * 8 * 8
    assert meter.of(batch, 2e-9 * flops) == pytest.approx(0.5) and meter.of(batch, 0.5e-9 * flops) is None


def test_where_bfloat16_is_emulated_the_peak_is_that_of_float32_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {"bfloat16": 10.0, "float32": 90.0}
    monkeypatch.setattr(mfu, "matmul_rate", lambda name, **_: rates[name])
    monkeypatch.setattr(mfu, "convolution_rate", lambda name, **_: 1.2 * rates[name])
    for emulated, peak in ((True, 108.0), (False, 12.0)):
        monkeypatch.setattr(mfu, "has_fast_bfloat16", lambda device, fast=not emulated: fast)
        peak_gflops.cache_clear()
        assert peak_gflops("cpu", "bfloat16") == pytest.approx(peak)
    peak_gflops.cache_clear()
