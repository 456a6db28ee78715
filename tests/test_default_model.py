"""The shipped model: whole, small, and what its card says of its tokenizer holds on a few clips."""

import json

import numpy as np
import pytest
import torch

import vidgen
from vidgen.checkpoints.hub import SHIPPED
from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig, check
from vidgen.metrics import psnr
from vidgen.pipelines.evaluation.adherence import held_out_prompts, held_out_world, score_generation


@pytest.fixture(scope="module")
def pipe():
    return vidgen.load_pipeline("default")


def test_weights_are_small_and_bfloat16():
    from safetensors.torch import load_file

    files = list((SHIPPED / "default").rglob("*.safetensors"))
    named = json.loads((SHIPPED / "default" / "model_index.json").read_text())
    assert {f.parent.name for f in files} == set(named) - {"_class_name", "scheduler"}
    assert sum(f.stat().st_size for f in files) < 32e6
    for file in files:
        assert {t.dtype for t in load_file(file).values()} <= {torch.bfloat16}


def test_reconstructions_of_the_world(pipe):
    world = ShapeWorld(ShapeWorldConfig(split="held_out"))
    clips = [world[i] for i in range(8)]
    video = torch.stack([to_tensor(clip.video) for clip in clips])
    decoded = pipe.vae(video).clamp(-1.0, 1.0)
    assert psnr(decoded, video).mean() > 29.0
    results = [check(x, clip.labels) for x, clip in zip(decoded, clips, strict=True)]
    assert all(result.colour for result in results) and sum(result.motion for result in results) >= 7


@pytest.mark.slow
def test_latents_are_normalised(pipe):
    world = ShapeWorld(ShapeWorldConfig(split="held_out"))
    latents = pipe.vae.encode(torch.stack([to_tensor(world[i].video) for i in range(32)])).latents
    assert abs(latents.mean()) < 0.3 and 0.5 < latents.std() < 1.5


def test_a_prompt_gives_a_clip_of_its_colour(pipe):
    out = pipe(["a red circle moves right", "a blue square stays still"], num_inference_steps=8)
    assert [frames.shape for frames in out.frames] == [(17, 64, 64, 3)] * 2
    red, blue = (frames.astype(np.int64).reshape(-1, 3) for frames in out.frames)
    assert ((red[:, 0] - red[:, 1:].max(1)) > 80).mean() > 0.005
    assert ((blue[:, 2] - blue[:, :2].max(1)) > 80).mean() > 0.005


@pytest.mark.slow
def test_clips_show_what_their_prompts_ask_for(pipe):
    result = score_generation(pipe, held_out_prompts(held_out_world(pipe.scheduler), 8))
    assert result["colour"] == 1.0 and result["motion"] >= 0.75 and result["all"] >= 0.6  # 0.92 of 200: the model card


@pytest.mark.slow
def test_the_students_clips_show_it_in_four_steps_and_stream(pipe):
    result = score_generation(pipe.student, held_out_prompts(held_out_world(pipe.scheduler), 8))
    assert pipe.student.scheduler.num_inference_steps == 4
    assert result["colour"] == 1.0 and result["motion"] >= 0.75 and result["all"] >= 0.6  # 0.90 of 200: the model card
    streamed = np.concatenate([chunk.frames for chunk in pipe.student.stream("a red circle moves right", 17)])
    whole = pipe.student("a red circle moves right").frames[0]
    assert np.abs(streamed.astype(int) - whole).max() <= 1
