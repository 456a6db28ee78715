"""The shipped prior: small, whole, and what its card says of colours and bits holds on a few clips."""

import json

import numpy as np
import pytest
import torch

import vidgen
from vidgen.checkpoints.hub import SHIPPED
from vidgen.errors import VidgenError
from vidgen.pipelines.evaluation.adherence import held_out_world
from vidgen.pipelines.evaluation.token_likelihood import score_likelihood
from vidgen.pipelines.loading import load_feature_encoder, load_generator
from vidgen.pipelines.priors.pipeline import PriorPipeline


@pytest.fixture(scope="module")
def pipe():
    return load_generator("prior")


def test_weights_are_small_and_bfloat16():
    from safetensors.torch import load_file

    files = list((SHIPPED / "prior").rglob("*.safetensors"))
    named = json.loads((SHIPPED / "prior" / "model_index.json").read_text())
    assert {f.parent.name for f in files} == set(named) - {"_class_name", "scheduler"}
    assert sum(f.stat().st_size for f in files) < 12e6
    for file in files:
        assert {t.dtype for t in load_file(file).values()} <= {torch.bfloat16}


def test_a_prompt_gives_a_clip_of_its_colour(pipe):
    out = pipe(["a red circle moves right", "a blue square stays still"], seed=0, temperature=0.9)
    assert [frames.shape for frames in out.frames] == [(17, 64, 64, 3)] * 2
    red, blue = (frames.astype(np.int64).reshape(-1, 3) for frames in out.frames)
    assert ((red[:, 0] - red[:, 1:].max(1)) > 80).mean() > 0.005
    assert ((blue[:, 2] - blue[:, :2].max(1)) > 80).mean() > 0.005


def test_speculation_makes_a_clip_too(pipe):
    passes = []
    out = pipe("a red circle", seed=0, decoder="speculative_jacobi", callback_on_step_end=lambda i, x: passes.append(i))
    assert out.frames[0].shape == (17, 64, 64, 3) and passes[-1] == 639 > len(passes)


def test_it_needs_fewer_bits_than_what_tokens_take_without_a_prior(pipe):
    world = held_out_world(pipe.scheduler)
    clips = [(clip.video, clip.caption) for clip in (world[index] for index in range(4))]
    report = score_likelihood(pipe, clips)
    assert report["exact"] and report["bits_per_token"] < 0.5 * report["stored_bits_per_token"]


def test_it_is_read_as_an_encoder_and_is_no_denoiser():
    assert "blocks.0" in {info.name for info in load_feature_encoder("prior").feature_info}
    assert isinstance(load_generator("prior"), PriorPipeline)
    with pytest.raises(VidgenError, match="PriorPipeline"):
        vidgen.load_pipeline("prior")
