"""A student beside the many-step model in one folder: it makes what prompts alone ask for, the other all else."""

from dataclasses import replace

import pytest
import torch

from vidgen.checkpoints.hashing import model_hash
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.rollout import rollout
from vidgen.pipelines.video import VideoPipeline

SIZE = {"num_frames": 5, "height": 16, "width": 16}


@pytest.fixture
def pipe(tiny_pipelines) -> VideoPipeline:
    """A tiny pipeline with a causal student of two steps."""
    pipe, other = (tiny_pipelines["make_random"]() for _ in range(2))
    torch.manual_seed(1)
    network = other.transformer.with_chunks((1, 1))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    schedule = replace(
        pipe.scheduler,
        **{"sampler": "consistency", "num_inference_steps": 2, "guidance_scale": 1.0},
        **{"distilled_steps": (2,), "distilled_guidance": 4.0},
    )
    pipe.student = VideoPipeline(pipe.vae, network, pipe.text_encoder, schedule)
    return pipe


def test_a_prompt_by_name_is_the_students(pipe):
    by_name = pipe(prompt="a star", output_type="latent", **SIZE).latents
    assert torch.equal(by_name, latents(pipe.student))


def test_a_stream_is_of_the_one_that_is_causal(pipe):
    chunks = [list(one.stream("a star", 5, height=16, width=16)) for one in (pipe, pipe.student)]
    assert torch.equal(chunks[0][1].latents, chunks[1][1].latents)


def latents(pipe: VideoPipeline, **settings: object) -> torch.Tensor:
    return pipe("a star", output_type="latent", **SIZE, **settings).latents


@pytest.mark.parametrize("settings", [{}, {"num_inference_steps": 2}, {"guidance_scale": 1.0}, {"negative_prompt": ""}])
def test_prompts_alone_are_the_students(pipe, settings):
    assert torch.equal(latents(pipe, seed=3, **settings), latents(pipe.student, seed=3))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_inference_steps": 3},
        {"guidance_scale": 3.0},
        {"sampler": "heun", "num_inference_steps": 2},
        {"negative_prompt": "a ring"},
        {"guidance": "apg"},
        {"image": torch.zeros(16, 16, 3, dtype=torch.uint8).numpy()},
    ],
)
def test_all_else_is_the_models_own(pipe, settings):
    own = latents(pipe, **settings)
    student, pipe.student = pipe.student, None
    assert torch.equal(own, latents(pipe, **settings))
    assert not torch.equal(own, latents(student))


def test_a_folder_holds_both(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "both")
    loaded = load_pipeline(str(tmp_path / "both"))
    assert loaded.student.scheduler == pipe.student.scheduler and loaded.scheduler == pipe.scheduler
    assert loaded.student.transformer.config == pipe.student.transformer.config
    assert loaded.student.vae is loaded.vae and loaded.student.text_encoder is loaded.text_encoder
    assert torch.equal(latents(loaded), latents(pipe))
    assert torch.equal(latents(loaded, num_inference_steps=3), latents(pipe, num_inference_steps=3))
    both, loaded_student = model_hash(loaded), loaded.student
    loaded.student = None
    assert model_hash(loaded) == both  # features are the model's own
    loaded.student = loaded_student
    assert loaded.to(torch.float64).student.dtype == torch.float64


def test_long_clips_are_the_causal_students_stream(pipe):
    settings = {"height": 16, "width": 16, "seed": 2}
    chunks = list(rollout(pipe, "a star", 13, **settings))
    streamed = list(pipe.student.stream("a star", 13, **settings))
    assert len(chunks) == 4
    for chunk, other in zip(chunks, streamed, strict=True):
        assert torch.equal(chunk.latents, other.latents) and (chunk.frames == other.frames).all()
    windows = list(rollout(pipe, "a star", 13, num_inference_steps=3, **settings))
    assert [len(chunk.frames) for chunk in windows] != [len(chunk.frames) for chunk in chunks]
