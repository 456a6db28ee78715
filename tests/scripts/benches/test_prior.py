"""`vidgen bench prior`: the cache beside whole passes, a Llama of the same size, and decoders with their passes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.scripts.benches import prior
from vidgen.scripts.benches.bench_rows import BenchSettings
from vidgen.scripts.benches.machine import Machine
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

MACHINE = Machine(about={}, matmul_gflops={"float32": 10.0}, conv_gflops={"float32": 10.0})
SMALL = TokenPriorConfig(codebook_sizes=(18,), width=32, depth=2, head_dim=16)


def rows_of(**settings: object) -> list[dict]:
    bench = BenchSettings(**{"dtype": "float32", "rounds": 1, "quick": True, "memory": False, **settings})
    return [row.to_json() for row in prior.measure(bench, MACHINE)]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "SHAPE", SMALL)
    monkeypatch.setattr(prior, "CONTEXTS", (128, 192))


def test_the_cache_says_what_whole_passes_say() -> None:
    rows = rows_of(only=("cached",), quick=False)
    assert [row["context_tokens"] for row in rows] == [128, 192]
    assert all(row["max_abs_diff"] < 1e-5 and row["ratio"] > 0 for row in rows)


def test_the_peer_is_as_large() -> None:
    (row,) = rows_of(only=("generate",))
    assert row["tokens"] == 64 and row["ratio"] > 0
    config = replace(SMALL, width=192, depth=8, head_dim=48, codebook_sizes=(1024,))
    ours, peer = TokenPrior(config).num_parameters(), prior.open_llama(config, 1280).num_parameters()
    assert peer == pytest.approx(ours, rel=0.02)


def test_a_long_clip_rolls_on() -> None:
    (row,) = rows_of(only=("length",))
    assert row["tokens"] == prior.QUICK_LONG * prior.FRAME and row["ours_s"] > 0


def test_decoders_are_those_of_the_model(tmp_path: Path, model: Path) -> None:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2)))
    schedule = PriorSchedule(num_frames=5, height=16, width=16, num_inference_steps=3)
    for order, passes in (("causal", ["8.0"]), ("masked", ["3.0", "8.0", "8.0", "4.0", "5.0"])):
        pipe = PriorPipeline(tokenizer.eval(), TokenPrior(replace(SMALL, order=order)).eval(), None, schedule)
        pipe.save_pretrained(tmp_path / order)
        rows = rows_of(only=("decoders",), model=str(tmp_path / order))
        assert [row["said"].removesuffix(" passes") for row in rows][: len(passes)] == passes
    with pytest.raises(VidgenError, match="--only decoders is of a prior"):
        rows_of(only=("decoders",), model=str(model))
    assert all("clip by" not in row["name"] for row in rows_of(model=str(model)))
