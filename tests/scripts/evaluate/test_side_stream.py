"""`vidgen evaluate side-stream`: errors of a model that says nothing, and what has no actions in one line."""

import json

import pytest
import torch

from vidgen.models.dit.joint_network import with_side_stream
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline


@pytest.mark.slow
def test_errors_and_a_sheet(vidgen, pipe, tmp_path):
    torch.manual_seed(0)
    clips = SchedulerConfig(num_frames=9, height=32, width=32)
    transformer = with_side_stream(pipe.transformer, 8)
    VideoPipeline(pipe.vae, transformer, pipe.text_encoder, clips).save_pretrained(tmp_path / "model")
    words = ("evaluate", "side-stream", tmp_path / "model", "--n", 2, "--num-inference-steps", 1)
    report = json.loads(vidgen(*words, "--json", "--sheet", tmp_path / "sheet.png").out)
    assert report["n"] == 2 and (tmp_path / "sheet.png").stat().st_size > 1000
    assert set(report["actions"]) == {"inverse", "inverse zero", "policy", "policy zero", "policy keep"}
    # A new stream predicts a velocity of 0: in one step from noise the noise stays, of variance 1 beside the truth's.
    assert report["actions"]["inverse"]["mean"] > report["actions"]["inverse zero"]["mean"]
    assert "inverse zero" in vidgen(*words).out


def test_a_model_without_actions_is_one_line(vidgen):
    assert "this model has no side stream" in vidgen("evaluate", "side-stream", "default", "--n", 1).error
