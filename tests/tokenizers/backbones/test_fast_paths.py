"""Faster ways to the same result: frames as 2-D convolutions, norm and SiLU in blocks, one memory layout throughout."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidgen.tokenizers.backbones import norms
from vidgen.tokenizers.backbones.convolutions import CausalConv3d, Stream, convolve_frames
from vidgen.tokenizers.backbones.norms import RMSNorm
from vidgen.tokenizers.backbones.resampling import double_and_convolve
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

WAYS = ((5, 16), (1, 16), (9, 32), (6, 24))  # frames and heights
WAN = ("kl_causal_4x8x8_16ch_wan", "kl_causal_4x16x16_48ch_wan")


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last_3d)


def small(preset: str) -> VideoTokenizer:
    """A preset with narrow layers, its norms' weights moved from 1."""
    torch.manual_seed(0)
    config = dataclasses.replace(PRESETS[preset], widths=(4, 8, 8, 8), decoder_widths=(), decoder_blocks=2)
    tokenizer = VideoTokenizer(config).double().eval().requires_grad_(False)
    for layer in tokenizer.modules():
        if isinstance(layer, RMSNorm):
            layer.weight.uniform_(0.5, 2.0)
    return tokenizer


def test_frames_as_2d_convolutions():
    layer, x = nn.Conv3d(3, 5, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)).double(), noise(2, 3, 4, 6, 8)
    y = convolve_frames(x, layer)
    assert (y - layer(x)).abs().max() < 1e-12 and y.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("size", [(1, 1), (3, 4)])
def test_doubled_frames_are_never_made(dtype, tolerance, size):
    layer, x = nn.Conv3d(3, 5, (1, 3, 3), padding=(0, 1, 1)).to(dtype).requires_grad_(False), noise(2, 3, 2, *size)
    x = x.to(dtype)
    y = double_and_convolve(x, layer)
    doubled = F.interpolate(x.double(), scale_factor=(1.0, 2.0, 2.0), mode="nearest")
    exact = F.conv3d(doubled, layer.weight.double(), layer.bias.double(), padding=layer.padding)
    assert (y - exact).abs().max() <= tolerance * exact.abs().max()
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last_3d)
    plain = double_and_convolve(x, layer.requires_grad_(True))
    assert plain.requires_grad and (plain - y).abs().max() <= 2 * tolerance * exact.abs().max()


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 1, 1), (2, 3, 3), (1, 3, 3)])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_causal_convolutions_are_those_of_a_clip_behind_zeros(kernel, frames):
    layer, x = CausalConv3d(3, 4, kernel).double().requires_grad_(False), noise(2, 3, frames, 5, 4)
    layer.key, padded = "layer", F.pad(x, (0, 0, 0, 0, kernel[0] - 1, 0))
    wanted = F.conv3d(padded, layer.weight, layer.bias, padding=layer.padding)
    with_room = torch.cat([torch.full_like(padded[:, :, : layer.context], torch.nan), x], dim=2)
    for way, given in ((layer.forward, x), (layer.fill, with_room)):
        stream = Stream()
        assert (way(given, stream) - wanted).abs().max() < 1e-12
        if layer.context:  # the next chunk goes on from there
            assert torch.equal(stream.next["layer"], padded[:, :, -layer.context :])


def test_two_first_frames_at_half_the_rate():
    layer, x = CausalConv3d(3, 4, (3, 1, 1), stride_t=2).double(), noise(1, 3, 2, 5, 4)
    wanted = F.conv3d(F.pad(x, (0, 0, 0, 0, 1, 0)), layer.weight, layer.bias, stride=(2, 1, 1))
    assert (layer(x, Stream()) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("block", [1, 40, 2**17])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6), (torch.bfloat16, 1e-2)]
)
def test_norm_and_silu_in_blocks(monkeypatch, block, dtype, tolerance):
    monkeypatch.setattr(norms, "BLOCK", block)
    norm, x = RMSNorm(6).to(dtype).requires_grad_(False), noise(2, 6, 3, 4, 5, dtype=dtype)
    norm.weight.copy_(torch.rand(6) + 0.5)
    x[0, :, 1, 2, 3] = 0.0  # a vector without a direction stays where it is
    wanted = F.silu(norm(x))
    for given in (x, x.contiguous()):
        whole = norm.activate(given, room=2)
        assert whole.shape == (2, 6, 5, 4, 5) and whole.is_contiguous(memory_format=torch.channels_last_3d)
        assert (whole[:, :, 2:] - wanted).abs().max() <= tolerance * wanted.abs().max()
    assert torch.equal(norm.activate(x)[0, :, 1, 2, 3], torch.zeros(6, dtype=dtype))
    exact = F.silu(F.normalize(x.double(), dim=1) * 6**0.5 * norm.weight.double().view(-1, 1, 1, 1))
    assert (wanted - exact).abs().max() <= tolerance * exact.abs().max()


def test_one_region_is_compiled_for_all_widths_and_lengths(monkeypatch):
    from torch._dynamo.testing import CompileCounter

    tokenizer = small(WAN[0])
    clips = [torch.rand(1, 3, frames, side, side + 8, dtype=torch.float64) * 2 - 1 for frames, side in WAYS]
    wanted = [tokenizer(clip) for clip in clips]
    counter = CompileCounter()
    region = norms.torch.compile(norms.normalize_into, dynamic=True, fullgraph=True, backend=counter)
    monkeypatch.setattr(norms, "compile_region", lambda backend: region)
    assert norms.compile_norms(tokenizer) == sum(isinstance(layer, RMSNorm) for layer in tokenizer.modules())
    for clip, plain in zip(clips, wanted, strict=True):
        assert (tokenizer(clip) - plain).abs().max() < 1e-12
    assert counter.frame_count == 1
    norms.compile_norms(tokenizer, backend="")
    assert torch.equal(tokenizer(clips[0]), wanted[0]) and counter.frame_count == 1


@pytest.mark.parametrize("preset", WAN)
def test_without_gradients_the_result_is_the_same(preset, monkeypatch):
    monkeypatch.setattr(norms, "BLOCK", 100)
    tokenizer, video = small(preset), torch.rand(1, 3, 6, 32, 32, dtype=torch.float64) * 2 - 1
    quick = tokenizer.encode(video)
    tokenizer.requires_grad_(True)
    plain = tokenizer.encode(video)
    assert plain.latents.requires_grad and not quick.latents.requires_grad
    assert (plain.latents - quick.latents).abs().max() < 1e-12
    frames = tokenizer.decode(plain)
    frames.sum().backward()
    tokenizer.requires_grad_(False)
    assert (tokenizer.decode(quick) - frames).abs().max() < 1e-12
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tokenizer.decoder.parameters())


@pytest.mark.parametrize("frames", [1, 6])
@pytest.mark.parametrize("preset", [*WAN, "tiny"])
def test_channels_come_last_throughout(preset, frames):
    tokenizer = (VideoTokenizer(PRESETS["tiny"]).eval() if preset == "tiny" else small(preset)).to(torch.bfloat16)
    tokenizer.requires_grad_(False)
    seen = []

    def look(layer: nn.Module, given: tuple, y: torch.Tensor) -> None:
        seen.append(type(layer).__name__)
        assert y.is_contiguous(memory_format=torch.channels_last_3d), (layer, y.shape, y.stride())
        assert y.dtype == torch.bfloat16

    inside = (nn.ModuleList, nn.Linear, nn.LayerNorm, nn.Identity)  # of other shapes, or nothing of their own
    for layer in (*tokenizer.encoder.modules(), *tokenizer.decoder.modules()):
        if not isinstance(layer, inside):
            layer.register_forward_hook(look)
    tokenizer.decode(tokenizer.encode(torch.rand(1, 3, frames, 32, 32) * 2 - 1))
    assert {"ResidualBlock", "Downsample", "Upsample"} <= set(seen)
