"""`vidgen evaluate horizon`, and surprise, of an encoder with its predictor of features."""

import json
from pathlib import Path

import pytest
import torch

from vidgen.models.encoders.feature_predictor import FeaturePredictor
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.models.heads.token_predictor import TokenPredictor, TokenPredictorConfig


@pytest.fixture
def predictor(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    shape = VideoViTConfig(patch=(2, 8, 8), width=32, depth=1, head_dim=16, clip=(12, 32, 32))
    config = TokenPredictorConfig(width=32, head_dim=16, depth=1, context_width=32, channels=32)
    model = FeaturePredictor(encoder=VideoViT(shape), predictor=TokenPredictor(config), teacher=VideoViT(shape))
    model.save_pretrained(tmp_path / "predictor")
    return tmp_path / "predictor"


def test_horizon_has_a_row_for_each_way_and_step(vidgen, predictor: Path, model: Path) -> None:
    words = ("evaluate", "horizon", predictor, "--n", 6)
    report = json.loads(vidgen(*words, "--json").out)
    assert report["n"] == 6 and len(report["rows"]) == 5 * 3
    assert all(row["ci"][0] <= row["error"] <= row["ci"][1] and row["clips"] == 6 for row in report["rows"])
    table = vidgen(*words).out
    assert "constant velocity" in table and "6 frames ahead" in table
    assert "has no predictor of features" in vidgen("evaluate", "horizon", model).error


def test_surprise_of_an_encoder_is_its_predictors(vidgen, predictor: Path) -> None:
    words = ("evaluate", "surprise", "--model", predictor, "--n", 2, "--violations", "teleports")
    rows = json.loads(vidgen(*words, "--json").out)["rows"]
    assert [row["scorer"] for row in rows] == ["predictor", "random.predictor", "frame_differences"]
    assert all(0 <= row["auc"] <= 1 and row["noise_level"] is None for row in rows)
    assert "AUC" in vidgen(*words).out
    assert "leave --noise-levels and --draws out" in vidgen(*words, "--draws", 2).error
