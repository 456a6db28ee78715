"""`vidgen bench stream`: the cache beside whole passes, and streams whose memory is held against shorter ones."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.models.causal_attention import KVCache
from vidgen.pipelines.loading import load_pipeline
from vidgen.scripts.benches import stream
from vidgen.scripts.benches.bench_rows import BenchSettings
from vidgen.scripts.benches.machine import Machine

MACHINE = Machine(about={}, matmul_gflops={"float32": 10.0}, conv_gflops={"float32": 10.0})
QUICK = {"dtype": "float32", "rounds": 1, "quick": True, "memory": False}


def rows_of(model: Path, **settings: object) -> list[dict]:
    bench = BenchSettings(model=str(model), **{**QUICK, **settings})
    return [row.to_json() for row in stream.measure(bench, MACHINE)]


@pytest.fixture
def trained(monkeypatch) -> None:
    """Weights that matter: as made, the blocks are shut."""

    def open_trained(work):
        pipe = load_pipeline(work.model)
        torch.manual_seed(0)
        for parameter in pipe.transformer.parameters():
            nn.init.normal_(parameter, std=0.2)
        return pipe

    monkeypatch.setattr(stream, "open_model", open_trained)


def test_the_cache_makes_the_prediction_of_the_whole_pass(trained: None, model: Path) -> None:
    """After one window and after five; the tiny model's windows are two latent frames, its chunks one."""
    (one,) = rows_of(model, only=("cached",))
    assert 0 < one["max_abs_diff"] < 1e-5 and one["context_frames"] == 2 and one["ratio"] > 0
    rows = rows_of(model, only=("cached",), quick=False)
    assert [row["context_frames"] for row in rows] == [2, 4, 10]
    assert all(0 < row["max_abs_diff"] < 1e-5 for row in rows)
    (alone,) = rows_of(model, only=("cached",), peers=())
    assert "max_abs_diff" not in alone or alone["max_abs_diff"] is None


def test_a_cache_that_lacks_frames_shows(trained: None, model: Path, monkeypatch) -> None:
    (whole,) = rows_of(model, only=("cached",))
    assert 0 < whole["max_abs_diff"] < 1e-5
    monkeypatch.setattr(stream, "KVCache", partial(KVCache, window=2, sinks=0))
    (short,) = rows_of(model, only=("cached",))
    assert short["max_abs_diff"] > 1e-4


def test_a_stream_has_all_its_frames(model: Path) -> None:
    (row,) = rows_of(model, only=("length",))
    assert row["frames"] == 60 and row["fps"] == pytest.approx(60 / row["ours_s"], rel=1e-4)
    pipe = stream.open_causal(str(model), "cpu", "float32")
    seconds, counts = stream.time_chunks(pipe, 60)
    assert sum(counts) == 60 and len(seconds) == len(counts)


@pytest.mark.slow
def test_memory_is_of_streams_in_processes_of_their_own(vidgen, model: Path, tmp_path: Path) -> None:
    words = ("bench", "stream", "--quick", "--rounds", 1, "--dtype", "float32", "--model", model)
    ran = vidgen(*words, "--json", tmp_path / "stream.json")
    assert ran.status == 0, ran
    _, row = json.loads((tmp_path / "stream.json").read_text())["rows"]
    assert row["base_frames"] == 6 and row["peak_ratio"] == pytest.approx(
        row["peak_mb"] / row["base_peak_mb"], rel=1e-4
    )
    shown = vidgen(*words, "--no-memory")
    assert "in the first tenth" in shown.out and "peer: uncached, all frames in each pass" in shown.out


def test_a_published_model_is_refused(monkeypatch) -> None:
    pipe = type("Pipe", (), {"transformer": object(), "student": None})()
    monkeypatch.setattr(stream, "open_model", lambda work: pipe)
    with pytest.raises(VidgenError, match="wan: a published model, which does not stream"):
        stream.open_causal("wan", "cpu", "float32")
