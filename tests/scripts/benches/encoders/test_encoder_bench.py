"""`vidgen bench encoder`: the plain encoder is its peer, its operations are counted, and features are compared."""

import json
from pathlib import Path

import pytest
import torch

from vidgen.models.encoders.reducers import REDUCERS, reduce_encoder
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.profiling.flops import count_gflops
from vidgen.scripts.benches.bench_rows import BenchSettings
from vidgen.scripts.benches.encoders import encoder as bench

WORDS = ("bench", "encoder", "--quick", "--no-memory", "--rounds", 2, "--dtype", "float32")


@pytest.mark.slow
def test_the_rows(vidgen, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    ran = vidgen(*WORDS, "--json", out)
    assert ran.status == 0, ran
    rows = {row["name"].partition(":")[0]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == [*REDUCERS, "learner"]
    for name, row in rows.items():
        assert row["ratio"] == pytest.approx(row["peer_s"] / row["ours_s"], rel=1e-4)
        assert row["clip_s"] == pytest.approx(row["ours_s"] / 2, rel=1e-4) and row["clock"] == "processor"
        assert row["gflops"] < row["peer_gflops"] or name in ("salient", "learner")  # small grids: scores once more
        assert row["cosine"] is None if name == "learner" else -1 <= row["cosine"] < 1
    assert rows["memory"]["name"].endswith("2 x 32x32x32") and rows["tokens"]["name"].endswith("2 x 8x32x32")
    shown = vidgen(*WORDS, "--only", "tokens")
    assert "cosine to all tokens" in shown.out and "tokens/s" in shown.out


@torch.inference_mode()
def test_a_quarter_of_the_tokens_is_a_quarter_of_the_products() -> None:
    torch.manual_seed(0)
    model = VideoViT(VideoViTConfig(patch=(2, 8, 8), width=32, depth=2, head_dim=16, clip=(8, 32, 32))).eval()
    video = torch.rand(1, 3, 8, 32, 32)
    n, d, embedding = 64, 32, 2 * 64 * 384 * 32  # tokens, width; and what all tokens cost to embed
    place = 2 * 64 * 16 * 32

    def blocks(tokens: int) -> float:
        return 2 * (2 * tokens * 12 * d * d + 2 * 2 * tokens * tokens * d)

    plain = count_gflops(lambda: bench.features_of(model, video)) * 1e9
    pruned = count_gflops(lambda: bench.features_of(reduce_encoder(model, "tokens:0.25"), video)) * 1e9
    assert plain == pytest.approx(embedding + place + blocks(n))
    assert pruned == pytest.approx(embedding / 4 + place + blocks(n // 4))


def test_the_cosine_is_1_where_nothing_is_left_out_and_of_what_differs_between_clips() -> None:
    settings = BenchSettings(quick=True, dtype="float32")
    model = bench.open_encoder(settings)
    video = bench.draw_clips(model, settings, 1)
    with torch.inference_mode():
        plain = bench.features_of(model, video)
        assert bench.compare(bench.features_of(reduce_encoder(model, "tokens:1"), video), plain) > 0.9999
        assert bench.compare(plain.flip(0), plain) == pytest.approx(-1.0, abs=1e-3)  # of two clips, less their mean
    learning = bench.make_reduced(model, "learner:3")
    assert learning.config.learner_tokens == 3 and torch.equal(learning.patch_in.weight, model.patch_in.weight)


def test_a_model_that_is_no_such_encoder_is_one_line(vidgen, model: Path) -> None:
    assert "name a folder of `vidgen train ssl/NAME`" in vidgen(*WORDS, "--model", model).error
    assert "--only 'halve' is unknown; choose of merge" in vidgen(*WORDS, "--only", "halve").error
