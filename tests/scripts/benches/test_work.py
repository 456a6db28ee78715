"""Counting operations against closed forms, widths that match them, and the peers that come of it."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_tokenizer
from vidgen.profiling.flops import count_gflops
from vidgen.scripts.benches import tokenizer_comparison as comparison
from vidgen.scripts.benches.bench_rows import BenchSettings
from vidgen.scripts.benches.diffusers_autoencoders import (
    PEERS,
    ClipSize,
    PeerShape,
    build_peer,
    check_compression,
    decode_peer,
    encode_peer,
    fit_peer,
    measure_peer,
    peer_gflops,
    tokenizer_gflops,
)
from vidgen.scripts.benches.flop_matching import TOLERANCE, count_bytes, count_long, match_width
from vidgen.scripts.benches.machine import Machine, inspect_machine
from vidgen.scripts.benches.tokenizer_comparison import Sizes, TokenizerComparison
from vidgen.scripts.benches.tokenizer_workload import Workload, moving_frames, prepare
from vidgen.tokenizers.model import TokenizerConfig, VideoTokenizer

CLIP = ClipSize(frames=5, height=32, width=32)
LONG = ClipSize(frames=8, height=32, width=32)


@pytest.fixture(scope="module")
def tokenizer() -> VideoTokenizer:
    return load_tokenizer("default")


def test_operations_of_known_layers() -> None:
    x = torch.empty(1, 8, 4, 6, 6, device="meta")
    conv = torch.nn.Conv3d(8, 16, 3, padding=1, device="meta")
    assert count_gflops(lambda: conv(x)) == pytest.approx(2 * 27 * 8 * 16 * 4 * 36 / 1e9)
    q = torch.empty(2, 3, 10, 4, device="meta")
    assert count_gflops(lambda: F.scaled_dot_product_attention(q, q, q)) == pytest.approx(4 * 2 * 3 * 10 * 10 * 4 / 1e9)
    weight = torch.zeros(5, 7, requires_grad=True)
    assert count_gflops(lambda: F.linear(torch.ones(3, 7), weight).sum().backward()) == pytest.approx(4 * 105 / 1e9)
    assert count_bytes(lambda: torch.empty(100, device="meta") + 1.0) == 800


@pytest.mark.parametrize("target", [7.0, 500.0, 12_345.0, 4e6])
def test_the_roundest_width_that_matches(target: float) -> None:
    def count(width: int) -> float:
        return 3.0 * width**2 + 20.0 * width

    def fits(width: int) -> bool:
        return abs(math.log(count(width) / target)) <= math.log1p(TOLERANCE)

    found, steps = match_width(count, target), (16, 8, 4, 2, 1)
    rounder = [step for step in steps if any(fits(w) for w in range(step, 3000, step))]
    if rounder:
        assert fits(found) and found % rounder[0] == 0
    else:
        assert found == 1  # 23 operations at least
    with pytest.raises(ValueError, match="nothing to match"):
        match_width(count, 0.0)


def test_long_clips_are_counted_by_short_ones_where_that_is_true() -> None:
    asked = []

    def parabola(n: int) -> float:
        asked.append(n)
        return 3.0 + 2.0 * n + 0.5 * n * n

    assert count_long(parabola, 251) == pytest.approx(3.0 + 502.0 + 0.5 * 251**2) and asked == [2, 3, 4, 5]
    assert count_long(lambda n: float(n**3), 251) == 251.0**3


def test_our_work_is_counted_without_doing_it(tokenizer) -> None:
    video = torch.zeros(1, 3, 5, 32, 32)
    assert tokenizer_gflops(tokenizer, "encode", CLIP) == pytest.approx(count_gflops(lambda: tokenizer.encode(video)))
    encoded = tokenizer.encode(video)
    assert tokenizer_gflops(tokenizer, "decode", CLIP) == pytest.approx(count_gflops(lambda: tokenizer.decode(encoded)))


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_peers_match_in_compression_and_work(tokenizer, name: str) -> None:
    shape = fit_peer(name, tokenizer, CLIP)
    for way in ("encode", "decode"):
        ratio = measure_peer(shape, way, CLIP) / tokenizer_gflops(tokenizer, way, CLIP)
        assert 1 / (1 + TOLERANCE) <= ratio <= 1 + TOLERANCE, (shape, way, ratio)
    clip = replace(CLIP, frames=29)
    counted = measure_peer(shape, "encode", clip)
    assert peer_gflops(shape, "encode", clip) == pytest.approx(counted, rel=1e-6)
    network = build_peer(shape)
    with torch.no_grad():
        z = encode_peer(network, torch.zeros(1, 3, 5, 32, 32))
        ours = tokenizer.encode(torch.zeros(1, 3, 5, 32, 32)).latents
        assert z.shape == ours.shape == (1, 16, *CLIP.latents)
        assert decode_peer(network, z).shape == (1, 3, 5, 32, 32)


def test_another_compression_has_no_peers() -> None:
    with pytest.raises(VidgenError, match="--peers none"):
        check_compression(VideoTokenizer(TokenizerConfig(patch_t=2, widths=(8,), temporal=())))


def test_workloads_do_whole_clips_and_say_what_was_dropped(tokenizer) -> None:
    common = {"device": "cpu", "dtype": "float32"}
    for way in ("encode", "decode"):
        for streamed in (False, True):
            work = Workload(way=way, clip=LONG, streamed=streamed, **common)
            assert Workload.from_json(work.to_json()) == work
            assert prepare(work, tokenizer)() == 8
    shape = PeerShape(name="wan", channels=16, encoder=4, decoder=4)
    work = Workload(way="encode", clip=LONG, peer=shape, **common)
    assert Workload.from_json(work.to_json()) == work
    assert prepare(work, build_peer(shape))() == 5  # of 8: what does not fill a latent frame is gone
    frames = list(moving_frames(LONG))
    assert len(frames) == 8 and frames[0].shape == (32, 32, 3) and (frames[0] != frames[1]).any()


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time spent on matching."""
    shape = PeerShape(name="wan", channels=16, encoder=4, decoder=4)
    monkeypatch.setattr(comparison, "fit_peer", lambda *_: shape)


def make_race(**settings) -> TokenizerComparison:
    machine = Machine(about={}, matmul_gflops={"float32": 100.0}, conv_gflops={"float32": 100.0})
    sizes = Sizes(short=CLIP, base=CLIP, long=LONG)
    return TokenizerComparison(BenchSettings(dtype="float32", rounds=2, **settings), machine, sizes, ("wan",))


@pytest.mark.slow
def test_a_peer_that_takes_too_much_gets_less_and_it_is_said(narrow, monkeypatch) -> None:
    rows = list(make_race(memory=False, peer_seconds=0.0).rows("encode"))
    assert [row.name for row in rows] == ["encode 5x32x32, wan", "encode 8x32x32, wan"]
    short, long = (row.to_json() for row in rows)
    assert short["note"] == "" and short["peer_frames"] == short["frames"] == 5
    assert "wan ran 5 frames only" in long["note"] and (long["frames"], long["peer_frames"]) == (8, 5)
    assert long["ratio"] == pytest.approx(long["peer_s"] / 5 / (long["ours_s"] / 8), rel=1e-4)
    found = make_race(memory=False)
    work = Workload(way="encode", clip=CLIP, device="cpu", dtype="float32", peer=found.shapes["wan"])
    assert found.bounded(work, 0.001).clip == LONG
    monkeypatch.setattr(comparison, "free_bytes", lambda device: 1000)
    assert found.bounded(work, 0.001).clip == CLIP


def test_a_peer_that_does_not_run_has_a_row_that_says_why(narrow, monkeypatch) -> None:
    def fail(*_) -> None:
        raise NotImplementedError("pooling has no such dtype")

    monkeypatch.setattr("vidgen.scripts.benches.tokenizer_workload.decode_peer", fail)
    for row in make_race(memory=False).rows("decode"):
        assert row.name.endswith(", wan") and row.peer_s is None and row.ratio is None and row.ours_s > 0
        assert row.more["note"] == "wan does not run: pooling has no such dtype"


@pytest.mark.slow
def test_peaks_are_compared_and_a_peer_without_one_is_named(narrow, monkeypatch) -> None:
    def measure(prepare_work, **values) -> comparison.ProcessDied:
        work = Workload.from_json(values)
        assert prepare_work is comparison.prepare_alone
        if work.peer is not None:
            raise comparison.ProcessDied("killed by signal 9")
        return type("Peak", (), {"peak_mb": 100.0 + work.clip.frames, "work_mb": 10.0 + work.clip.frames})

    monkeypatch.setattr(comparison, "measure_peak", measure)
    short, long = (row.to_json() for row in make_race(peers=("wan",)).rows("decode"))
    assert short["peak_mb"] == 105.0 and "peak_ratio" not in short
    assert (long["peak_mb"], long["base_peak_mb"], long["base_frames"]) == (108.0, 105.0, 5)
    assert long["peak_ratio"] == pytest.approx(108 / 105, rel=1e-5)
    assert long["work_ratio"] == pytest.approx(18 / 15, rel=1e-5)
    assert long["peer_peak_mb"] is None and "killed by signal 9" in long["note"]


@pytest.mark.slow
def test_the_machine_is_described() -> None:
    machine = inspect_machine("cpu", ("float32", "bfloat16", "bfloat16"), quick=True).to_json()
    for roof in ("matmul_gflops", "conv_gflops"):
        assert list(machine[roof]) == ["float32", "bfloat16"] and min(machine[roof].values()) > 0
    assert machine["cpu"] and machine["cores"] >= 1 and machine["threads"] >= 1 and machine["device"] == "cpu"
