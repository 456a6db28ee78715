"""Rates of rounded latents against closed forms, and codecs at matched rates."""

from collections.abc import Callable
from itertools import pairwise
from math import ceil, log2

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.data.manifests import find_clips
from vidgen.data.video_codecs import CODECS, decompress, has_codec
from vidgen.metrics import psnr
from vidgen.metrics.entropy_coding import RANGE_BITS, entropy
from vidgen.tokenizers.bottlenecks import BOTTLENECKS
from vidgen.tokenizers.evaluation import rate_distortion
from vidgen.tokenizers.evaluation.protocols import ClipProtocol
from vidgen.tokenizers.evaluation.rate_distortion import (
    Sweep,
    code_tokens,
    half_precision,
    match,
    measure_rates,
    operating_points,
    round_latents,
    summarize_rates,
)
from vidgen.tokenizers.evaluation.reconstruction import evaluate


def test_rates_of_rounded_latents() -> None:
    """Channel 0 has 8 levels equally often, channel 1 one level."""
    z = torch.zeros(1, 2, 4, 8, 8)
    z[0, 0] = torch.arange(256).remainder(8).reshape(4, 8, 8) * 0.5
    z[0, 1] = 3.0
    point = round_latents(z + 0.1, 0.5)
    torch.testing.assert_close(point.latents, z)
    assert point.raw_bits == 256 * 3 + 2 * RANGE_BITS and point.entropy_bits == pytest.approx(256 * 3)
    assert 256 * 3 <= point.coded_bits - 2 * RANGE_BITS - 2 <= 256 * 3  # not worse than a fixed length, and 2 flags
    assert half_precision(z).raw_bits == half_precision(z).coded_bits == 16 * z.numel()


def test_smaller_steps_cost_more_and_err_less() -> None:
    z = torch.randn(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    points = [round_latents(z, step) for step in (2.0, 1.0, 0.5, 0.25)]
    for point, step in zip(points, (2.0, 1.0, 0.5, 0.25), strict=True):
        assert (point.latents - z).abs().max() <= step / 2 + 1e-6
        assert point.entropy_bits < point.coded_bits <= point.raw_bits + 2 * 3 * RANGE_BITS
    bits = [point.coded_bits for point in points]
    assert bits == sorted(bits)
    # Fine uniform quantization: h(z) - log2(step) bits, h = log2(2 pi e) / 2 for a Gaussian (Gish & Pierce 1968).
    assert points[3].entropy_bits / z.numel() == pytest.approx(0.5 * log2(2 * np.pi * np.e) + 2, abs=0.05)


def test_matching_reads_the_curve_at_the_rate() -> None:
    curve = [{"crf": k, "bpp": 2.0**-k, "psnr": 40 - 6 * k, "ssim": 1 - 0.1 * k} for k in range(4)]
    found = match(curve, 2**-1.5)
    assert found["psnr"] == pytest.approx(31, abs=1e-12) and found["ssim"] == pytest.approx(0.85, abs=1e-12)
    assert match(curve, 1.01) is None and match(curve, 0.12) is None


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    kept = [codec for codec in CODECS.values() if has_codec(codec)]
    return Sweep(steps=(0.5, 0.05), codecs=tuple(kept))


def test_a_clip_beside_codecs(frame_tokenizer, waves: Callable, sweep: Sweep) -> None:
    frames = list(waves(6, 64, 80))
    row = measure_rates(frame_tokenizer(), frames, 25, sweep)
    assert [p["name"] for p in row["points"]] == ["step 0.5", "step 0.05", "bfloat16"] and row["refused"] == {}
    coarse, fine, half = row["points"]
    assert half["raw_bpp"] == 16 * 12 * 3 / 6  # 12 channels in 3 latent frames of 6
    video = to_tensor(np.stack(frames))[None]
    assert fine["psnr"] == pytest.approx(psnr(video, (video / 0.05).round() * 0.05).item(), abs=1e-4)
    assert coarse["coded_bpp"] < fine["coded_bpp"] < half["coded_bpp"]
    for name, curve in row["codecs"].items():
        rates = [point["bpp"] for point in curve]
        assert len(curve) == len(CODECS[name].sweep) and rates[-1] < 0.2 * rates[0]
        assert all(b < 1.02 * a for a, b in pairwise(rates))  # at the coarse end a tiny file may be a byte longer
        assert half["matched"][name] is None  # 96 bits a pixel lie on no codec's curve


def test_small_frames_are_refused_by_one_codec_and_measured_by_the_others(frame_tokenizer, waves: Callable) -> None:
    sweep = Sweep(steps=(0.5,), codecs=(CODECS["x264"], CODECS["x265"]))
    row = measure_rates(frame_tokenizer(), list(waves(2, 32, 32)), 25, sweep)
    assert set(row["codecs"]) == {"x264"} and "at least 64, not 32x32" in row["refused"]["x265"]


@pytest.mark.parametrize("change", [lambda frames: frames[1:], lambda frames: [*frames, frames[0]]])
def test_a_codec_that_loses_or_adds_frames_is_left_out_and_named(
    frame_tokenizer, waves: Callable, make_video: Callable, monkeypatch, change: Callable
) -> None:
    monkeypatch.setattr(rate_distortion, "decompress", lambda clip: iter(change(list(decompress(clip)))))
    sweep, said = Sweep(steps=(0.5,), codecs=(CODECS["x264"],)), []
    report = evaluate(
        frame_tokenizer(), find_clips(make_video(waves(4, 16, 24))), ClipProtocol(), sweep=sweep, say=said.append
    )
    assert [clip["psnr"] for clip in report["clips"]] == [100] and report["dropped"] == []
    assert report["rate_distortion"]["codecs"] == {} and report["rate_distortion"]["points"][0]["matched"] == {}
    assert len(said) == 1 and "left out of the curve of x264: " in said[0] and "frames came back of 4" in said[0]


def test_means_over_clips_and_paired_gains() -> None:
    codec = CODECS["x264"]

    def clip(psnr: float, rate: float, theirs: float | None) -> dict:
        matched = {"x264": None if theirs is None else {"psnr": theirs, "ssim": 0.9}}
        point = {"name": "tokens", "raw_bpp": rate, "entropy_bpp": rate, "coded_bpp": rate, "psnr": psnr, "ssim": 0.9}
        curve = [{"crf": 10, "bpp": rate, "psnr": psnr, "ssim": 0.5}]
        return {"path": "x", "points": [point | {"matched": matched}], "codecs": {"x264": curve}, "refused": {}}

    clips = [clip(30, 0.1, 32), clip(34, 0.3, 33), clip(50, 0.8, None)]
    report = summarize_rates(clips, Sweep(codecs=(codec,)))
    (point,) = report["points"]
    assert point["psnr"] == 38 and point["coded_bpp"] == pytest.approx(0.4) and point["clips"] == 3
    found = point["matched"]["x264"]
    assert (found["psnr"], found["gain"], found["clips"]) == (32.5, -0.5, 2)
    half = 12.706205 * (4.5**0.5) / 2**0.5  # t table: 0.975, 1 degree of freedom
    assert found["ci"] == pytest.approx([-0.5 - half, -0.5 + half], abs=1e-4)
    assert report["codecs"]["x264"] == [{"crf": 10, "bpp": pytest.approx(0.4), "psnr": 38, "ssim": 0.5}]


def test_tokens_of_an_implicit_codebook_are_coded_digit_by_digit() -> None:
    rng = np.random.default_rng(0)
    digits = np.stack([rng.choice(level, 4000, p=[0.9] + [0.1 / (level - 1)] * (level - 1)) for level in (8, 5, 3)])
    book = digits[0] + 8 * digits[1] + 40 * digits[2]
    ideal = sum(4000 * entropy(digit) for digit in digits)
    assert ideal < code_tokens(book, 120, (8, 5, 3)) < 1.02 * ideal < code_tokens(book, 120)
    equal = np.full(1000, 7)
    assert code_tokens(equal, 2**18, (2,) * 18) < 18 * 8 < code_tokens(equal, 2**18)


def test_the_point_of_a_discrete_tokenizer(frame_tokenizer, waves: Callable) -> None:
    tokenizer = frame_tokenizer()
    tokenizer.bottleneck = BOTTLENECKS["fsq"](12, levels=(5,) * 12)
    frames = list(waves(6, 16, 20))
    (point,) = operating_points(tokenizer, frames, (1.0,))
    n = 3 * 16 * 20
    assert point.name == "tokens" and point.raw_bits == n * 28  # 5^12 codes
    assert point.entropy_bits < point.coded_bits < n * 12 * log2(5) + 13
    row = measure_rates(tokenizer, frames, 25, Sweep(codecs=()))
    assert row["points"][0]["raw_bpp"] == point.raw_bits / (6 * 16 * 20) and row["points"][0]["psnr"] > 14


def test_the_points_of_a_real_tokenizer(waves: Callable) -> None:
    from vidgen.tokenizers.model import VideoTokenizer
    from vidgen.tokenizers.presets import PRESETS

    torch.manual_seed(0)
    tokenizer = VideoTokenizer(PRESETS["tiny"]).eval()
    points = list(operating_points(tokenizer, list(waves(6, 24, 32)), (1.0,)))
    rate = tokenizer.config.temporal_compression_ratio
    assert [p.name for p in points] == ["step 1", "bfloat16"]
    assert points[1].latents.shape[2] == 1 + ceil(5 / rate)
