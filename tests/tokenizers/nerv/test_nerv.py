"""Fitted clips: values off by half a step at most, files that give back every bit, sizes that are what they say."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.tokenizers.nerv import files
from vidgen.tokenizers.nerv.clip import ClipNeRV, choose_config, cost_of, count_bits, quantize_clip
from vidgen.tokenizers.nerv.files import is_nerv, read_nerv, write_nerv
from vidgen.tokenizers.nerv.network import NeRVConfig, NeRVDecoder, NeRVEncoder, choose_strides
from vidgen.tokenizers.nerv.quantization import code_symbols, decode_symbols, quantize

FRAMES, HEIGHT, WIDTH = 5, 37, 50


@pytest.fixture
def fit() -> ClipNeRV:
    """Random weights for five odd-sized frames."""
    torch.manual_seed(0)
    config = NeRVConfig(height=HEIGHT, width=WIDTH, strides=choose_strides(HEIGHT, WIDTH), width_first=12)
    embeddings = torch.randn(FRAMES, config.embedding, *config.grid)
    return quantize_clip(NeRVDecoder(config), embeddings, bits=8, fps=25.0, source="ein Clip ü.mp4")


@pytest.mark.parametrize("bits", range(2, 9))
def test_quantising_is_off_by_half_a_step_at_most(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    for scale, shift in ((1.0, 0.0), (1e-3, 5.0), (300.0, -7.0)):
        x = scale * torch.randn(2000, generator=generator) + shift
        q = quantize(x, bits)
        assert q.step == pytest.approx((x.max() - x.min()).item() / (2**bits - 1), rel=1e-6)
        rounding = 4 * torch.finfo(torch.float32).eps * x.abs().max()
        assert (q.values() - x).abs().max() <= 0.5 * q.step + rounding
        assert q.codes.min() == 0 and q.codes.max() == 2**bits - 1


def test_constant_values_come_back_exactly_and_others_are_refused() -> None:
    x = torch.full((3, 2), 0.3)
    assert torch.equal(quantize(x, 8).values(), x)
    for bad in (torch.tensor([1.0, float("nan")]), torch.empty(0)):
        with pytest.raises(ValueError, match="finite"):
            quantize(bad, 8)


def test_coded_symbols_come_back_and_take_about_their_entropy() -> None:
    symbols = (
        np.random.default_rng(0).binomial(255, 0.5, 60_000).astype(np.uint8)
    )  # 5.05 bits each: 1/2 log2(2 pi e 64)
    data = code_symbols(symbols)
    assert np.array_equal(decode_symbols(data, len(symbols)), symbols)
    assert 5.04 < 8 * len(data) / len(symbols) < 5.15
    assert len(decode_symbols(code_symbols(symbols[:0]), 0)) == 0
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 16
    for bad, count in ((data[:-9], len(symbols)), (bytes(damaged), len(symbols)), (data, 59_999), (data, 60_001)):
        with pytest.raises(ValueError):
            decode_symbols(bad, count)


@pytest.mark.parametrize(
    ("height", "width", "strides"),
    [(4, 9, (2,)), (37, 50, (4, 2, 2)), (64, 64, (4, 2, 2, 2)), (128, 72, (4, 2, 2, 2)), (720, 1280, (4, 4, 4, 2, 2))],
)
def test_the_decoder_gives_the_size_that_went_into_the_encoder(height: int, width: int, strides: tuple) -> None:
    config = NeRVConfig(height=height, width=width, strides=choose_strides(height, width), width_first=4)
    assert config.strides == strides and min(config.grid) in (2, 3)
    with torch.device("meta"):
        embeddings = NeRVEncoder(config)(torch.empty(2, 3, height, width))
        assert embeddings.shape == (2, config.embedding, *config.grid)
        assert NeRVDecoder(config)(embeddings).shape == (2, 3, height, width)


def test_channels_fall_and_kernels_grow() -> None:
    config = NeRVConfig(height=720, width=1280, strides=(4, 4, 4, 2, 2), width_first=40, width_least=20)
    assert config.widths == (40, 33, 28, 23, 20, 20) and config.kernels == (1, 3, 5, 5, 5)
    with pytest.raises(VidgenError, match="3x9 are too small"):
        choose_strides(3, 9)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_widest_decoder_within_the_budget_is_chosen(bits: int) -> None:
    for budget in (20_000, 200_000):
        config = choose_config(64, 64, 20, bits=bits, budget=budget)
        wider = dataclasses.replace(config, width_first=config.width_first + 1)
        assert count_bits(config, 20, bits) <= budget < count_bits(wider, 20, bits)
    with pytest.raises(VidgenError, match=r"100 bytes are too few for 20 frames of 64x64: .* bits a pixel"):
        choose_config(64, 64, 20, bits=bits, budget=800)


def test_a_file_gives_back_the_clip_bit_for_bit_and_holds_what_was_counted(fit: ClipNeRV, tmp_path: Path) -> None:
    path = write_nerv(fit, tmp_path / "clip.safetensors")
    assert write_nerv(fit, tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    back = read_nerv(path)
    assert (back.config, back.fps, back.bits, back.source) == (fit.config, fit.fps, fit.bits, fit.source)
    assert list(back.weights) == list(fit.weights) == list(NeRVDecoder(fit.config).state_dict())
    for one, two in zip(
        [*fit.weights.values(), fit.embeddings], [*back.weights.values(), back.embeddings], strict=True
    ):
        assert torch.equal(one.codes, two.codes) and (one.low, one.step) == (two.low, two.step)
    whole = torch.cat(list(back.decode()), dim=1)
    assert whole.shape == (3, FRAMES, HEIGHT, WIDTH) and torch.equal(whole, torch.cat(list(fit.decode()), dim=1))
    data = path.read_bytes()
    payload = len(data) - 8 - int.from_bytes(data[:8], "little")
    cost = cost_of(back)
    assert cost.coded == 8 * payload <= count_bits(fit.config, FRAMES, 8)
    assert cost.weights + cost.embeddings < cost.coded and cost.entropy < cost.raw
    values = sum(p.numel() for p in NeRVDecoder(fit.config).parameters()) + fit.embeddings.codes.numel()
    assert cost.raw == 8 * values + 64 * (len(fit.weights) + 1)


def test_a_part_is_that_part_of_the_whole(fit: ClipNeRV, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.cat(list(fit.decode()), dim=1)
    monkeypatch.setattr("vidgen.tokenizers.nerv.clip.BATCH_PIXELS", 1)
    assert [piece.shape[1] for piece in fit.decode(1, 4)] == [1, 1, 1]
    torch.testing.assert_close(torch.cat(list(fit.decode(1, 4)), dim=1), whole[:, 1:4], rtol=0, atol=1e-5)


def test_files_that_are_cut_short_damaged_or_of_another_kind_are_refused(fit: ClipNeRV, tmp_path: Path) -> None:
    path = write_nerv(fit, tmp_path / "clip.safetensors")
    data, bad = path.read_bytes(), tmp_path / "bad.safetensors"
    start = 8 + int.from_bytes(data[:8], "little")
    for length in (0, 5, start - 20, start, start + 100, len(data) - 1):
        bad.write_bytes(data[:length])
        with pytest.raises(VidgenError, match="bad.safetensors: not a whole fitted clip"):
            read_nerv(bad)
        assert is_nerv(bad) == (length >= start)
    for place in (start + 150, len(data) - 10):  # of the ranges, which are floats, and of coded symbols
        changed = bytearray(data)
        changed[place : place + 4] = b"\xff\xff\xff\xff"
        bad.write_bytes(changed)
        with pytest.raises(VidgenError, match="fit the clip again"):
            read_nerv(bad)
    header = json.loads(data[8:start])
    said = json.loads(header["__metadata__"]["clip_fit"])
    for key, value in (("format", "vidgen tokens 1"), ("bits", 9), ("num_frames", 6), ("config", {}), ("config", 3)):
        changed = {**header, "__metadata__": {"clip_fit": json.dumps({**said, key: value})}}
        text = json.dumps(changed).encode()
        bad.write_bytes(len(text).to_bytes(8, "little") + text + data[start:])
        with pytest.raises(VidgenError, match="bad.safetensors: not a"):
            read_nerv(bad)
    with pytest.raises(VidgenError, match="no such file"):
        read_nerv(tmp_path / "none.safetensors")


def test_former_names_of_file_functions_warn():
    for name, now in files.FORMER_NAMES.items():
        with pytest.warns(FutureWarning, match=f"{name} is now called {now}"):
            assert getattr(files, name) is getattr(files, now)
    with pytest.raises(AttributeError, match="no attribute 'read_anything'"):
        files.read_anything  # noqa: B018
