"""`vidgen bench`: the report and its keys, the tables, and errors of one line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from vidgen.scripts.bench import load_benches

KEYS = {"name", "ours_s", "peer_s", "ratio", "gflops", "roof_fraction", "peak_mb", "max_abs_diff"}
WORDS = ("bench", "tokenizer", "--quick", "--no-memory", "--rounds", 2)


@pytest.mark.slow
def test_the_report(vidgen, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    ran = vidgen(*WORDS, "--only", "encode,train", "--peers", "cosmos", "--json", out)
    assert ran.status == 0 and ran.out == "", ran
    report = json.loads(out.read_text(encoding="utf-8"))
    machine, rows = report["machine"], {row["name"]: row for row in report["rows"]}
    assert {"cpu", "cores", "threads", "torch", "device", "matmul_gflops"} <= set(machine)
    assert {"float32", "bfloat16"} <= set(machine["matmul_gflops"])
    assert report["dtype"] in ("float32", "bfloat16")  # which of them is the processor's
    clips = ["encode 5x32x32, cosmos", "encode 16x32x32, cosmos"]
    assert list(rows) == [*clips, "train tokenizer_default 2x5x32x32"]
    for name in clips:
        row = rows[name]
        assert KEYS <= set(row) and row["max_abs_diff"] is None and row["peak_mb"] is None
        assert row["ratio"] == pytest.approx(row["peer_s"] / row["ours_s"], rel=1e-4)
        assert row["fps"] == pytest.approx(row["frames"] / row["ours_s"], rel=1e-4)
        assert row["gflops_per_s"] == pytest.approx(row["gflops"] / row["ours_s"], rel=1e-4)
        roof = machine["matmul_gflops"][report["dtype"]]
        assert row["roof_fraction"] == pytest.approx(row["gflops_per_s"] / roof, rel=0.01)
        assert row["peer_layout"] in ("contiguous", "channels_last_3d") and "Autoencoder" in row["against"]
        assert row["peer_gflops"] == pytest.approx(row["gflops"], rel=0.11) and row["peer_frames"] == row["frames"]
    train = rows["train tokenizer_default 2x5x32x32"]
    assert KEYS <= set(train) and train["peer_s"] is None
    assert train["tokens_per_s"] / train["fps"] == pytest.approx(2 * 2 * 4 * 4 / (2 * 5), rel=1e-4)


@pytest.mark.slow
def test_wan_on_the_same_weights(vidgen, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    ran = vidgen(*WORDS, "--only", "wan", "--peers", "wan", "--dtype", "float32", "--json", out)
    assert ran.status == 0, ran
    rows = {row["name"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == [
        *("wan encode 5x32x32", "wan decode 5x32x32", "wan encode + decode 1x32x32", "wan decode 9x32x32"),
    ]
    for row in rows.values():
        assert KEYS <= set(row) and row["max_abs_diff"] < 1e-4 and row["ratio"] > 0 and row["gflops"] > 0
        assert row["peer_layout"] == "contiguous" and row["peer_channels_last_s"] > 0 and row["note"] == ""


@pytest.mark.slow
def test_the_memory_of_wan_is_that_of_a_process_of_its_own(monkeypatch) -> None:
    from vidgen.profiling import peak_memory
    from vidgen.profiling.peak_memory import Peak
    from vidgen.scripts.benches import wan_autoencoder
    from vidgen.scripts.benches.bench_rows import BenchSettings
    from vidgen.scripts.benches.machine import Machine

    def measure(prepare, **values) -> Peak:
        assert prepare is wan_autoencoder.prepare_alone
        if values["way"] == "both":
            assert wan_autoencoder.prepare_alone(**values)().shape == (1, 3, 1, 32, 32)
        return Peak(peak_mb=200.0 if values["peer"] else 100.0, before_mb=0.0)

    monkeypatch.setattr(peak_memory, "measure_peak", measure)
    machine = Machine(about={}, matmul_gflops={"float32": 1.0}, conv_gflops={"float32": 1.0})
    settings = BenchSettings(dtype="float32", rounds=1)
    rows = list(wan_autoencoder.measure_autoencoder(replace(settings, quick=True), machine, with_peer=True))
    assert [(row.peak_mb, row.more["peer_peak_mb"]) for row in rows] == [(100.0, 200.0)] * 4
    alone = next(
        wan_autoencoder.measure_autoencoder(replace(settings, quick=True, memory=False), machine, with_peer=False)
    )
    assert alone.peer_s is alone.max_abs_diff is alone.peak_mb is None


@pytest.mark.slow
def test_the_tables(vidgen) -> None:
    ran = vidgen(*WORDS, "--only", "decode", "--peers", "none", "--dtype", "float32")
    assert ran.status == 0 and "decode 16x32x32" in ran.out and "of matmul" in ran.out and "memory" not in ran.out
    assert "matmul GFLOP/s: float32" in ran.out and "peer:" not in ran.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("bench", "magic"), "bench 'magic' is unknown; choose of tokenizer, dit"),
        ((*WORDS, "--peers", "nobody"), "--peers 'nobody' is unknown; choose of cosmos, wan"),
        ((*WORDS, "--only", "sleep"), "--only 'sleep' is unknown; choose of encode, decode, train, wan"),
        ((*WORDS, "--dtype", "float16"), "--dtype float16: nothing is trained in it"),
        ((*WORDS, "-o", "no/such/folder.json"), "the folder no/such does not exist"),
    ],
)
def test_bad_words_are_one_line(vidgen, words: tuple, line: str) -> None:
    assert line in vidgen(*words).error


def test_every_bench_is_a_module_with_its_choices() -> None:
    for suite in load_benches().values():
        assert callable(suite.measure) and suite.CASES and isinstance(suite.PEERS, tuple)
