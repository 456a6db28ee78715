"""`vidgen evaluate concepts` of a tiny encoder."""

import json
from pathlib import Path

import pytest
import torch

from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    VideoViT(VideoViTConfig(patch=(2, 8, 8), width=32, depth=3, head_dim=16, clip=(4, 32, 32))).save_pretrained(
        tmp_path
    )
    return tmp_path


def test_a_row_for_each_concept_by_importance(vidgen, encoder: Path) -> None:
    words = ("evaluate", "concepts", encoder, "--n", 3, "--concepts", 4, "--tubelets", 4, "--draws", 20)
    rows = json.loads(vidgen(*words, "--layers", "blocks.0,encoder.blocks.1", "--json").out)["rows"]
    assert {(row["layer"], row["concept"]) for row in rows} == {(f"blocks.{i}", k) for i in (0, 1) for k in range(4)}
    importance = [row["importance"] for row in rows]
    assert importance == sorted(importance, reverse=True)
    assert sum(row["tokens"] for row in rows) == pytest.approx(2.0)
    assert all(row["on_objects"] is None or 0 <= row["on_objects"] <= 1 for row in rows)
    table = vidgen(*words).out
    assert "blocks.1" in table and "blocks.0" not in table and "on objects" in table


def test_what_has_no_such_layers_is_one_line(vidgen, encoder: Path, model: Path) -> None:
    words = ("evaluate", "concepts", encoder, "--n", 2)
    assert "layer 'blocks.9' is not there" in vidgen(*words, "--layers", "blocks.9").error
    assert "8 draws do not tell 8 concepts apart" in vidgen(*words, "--draws", 8).error
    assert "no blocks of tokens" in vidgen("evaluate", "concepts", model, "--n", 2).error
