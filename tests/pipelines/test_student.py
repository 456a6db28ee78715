"""A student beside the many-step model in one folder: it makes what prompts alone ask for, the other all else."""

from dataclasses import replace

import pytest
import torch

from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.rollout import rollout
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.guidance.registry import Guidance

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


def latents(pipe: VideoPipeline, **settings: object) -> torch.Tensor:
    return pipe("a star", output_type="latent", **SIZE, **settings).latents


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_inference_steps": 2}, {"negative_prompt": "", "guidance": Guidance(passes="sequential")}],
)
def test_the_student_makes_what_prompts_alone_ask_for(pipe, settings):
    assert pipe.maker(**SIZE, seed=3, prompt="a star", image=None, **settings) is pipe.student
    student, pipe.student = pipe.student, None
    assert pipe.maker(**settings) is pipe and student.maker(**settings) is student


@pytest.mark.parametrize(
    "settings",
    [
        {"num_inference_steps": 3},
        {"guidance_scale": 1.0},
        {"sampler": "consistency"},
        {"negative_prompt": "a ring"},
        {"guidance": "apg"},
        {"guidance": Guidance(scale=2.0)},
        {"image": torch.zeros(16, 16, 3, dtype=torch.uint8).numpy()},
        {"step_cache": object()},
    ],
)
def test_the_model_makes_all_else(pipe, settings):
    assert pipe.maker(**settings) is pipe


def test_in_python_each_makes_its_own(pipe):
    """A LoRA or a hook on the model would have no effect on clips that the student made in its place."""
    own = latents(pipe, num_inference_steps=2)
    student, pipe.student = pipe.student, None
    assert torch.equal(own, latents(pipe, num_inference_steps=2)) and not torch.equal(own, latents(student))
    with pytest.raises(VidgenError, match="whole windows: use rollout$"):
        next(pipe.stream("a star"))
    pipe.student = student
    with pytest.raises(VidgenError, match="or stream its causal student, pipe.student"):
        next(pipe.stream("a star"))


def test_a_folder_holds_both(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "both")
    loaded = load_pipeline(str(tmp_path / "both"))
    assert loaded.student.scheduler == pipe.student.scheduler and loaded.scheduler == pipe.scheduler
    assert loaded.student.transformer.config == pipe.student.transformer.config
    assert loaded.student.vae is loaded.vae and loaded.student.text_encoder is loaded.text_encoder
    assert torch.equal(latents(loaded.student), latents(pipe.student))
    assert torch.equal(latents(loaded, num_inference_steps=3), latents(pipe, num_inference_steps=3))
    both, loaded_student = model_hash(loaded), loaded.student
    loaded.student = None
    assert model_hash(loaded) == both  # features are the model's own
    loaded.student = loaded_student
    assert loaded.to(torch.float64).student.dtype == torch.float64


def test_long_clips_of_a_causal_model_are_its_stream(pipe):
    settings = {"height": 16, "width": 16, "seed": 2}
    chunks = list(rollout(pipe.student, "a star", 13, **settings))
    streamed = list(pipe.student.stream("a star", 13, **settings))
    assert len(chunks) == 4
    for chunk, other in zip(chunks, streamed, strict=True):
        assert torch.equal(chunk.latents, other.latents) and (chunk.frames == other.frames).all()


def test_a_student_runs_the_models_own_parts_and_fits_them(pipe, tiny_pipelines):
    assert pipe.student.vae is pipe.vae and pipe.student.text_encoder is pipe.text_encoder
    other = tiny_pipelines["make_random"]()
    for parameter in other.text_encoder.parameters():
        torch.nn.init.normal_(parameter)
    with pytest.raises(VidgenError, match="a text encoder of its own"):
        pipe.student = other
    other.transformer = type("Network", (), {"config": type("C", (), {"latent_channels": 3, "text_width": 1})()})()
    with pytest.raises(VidgenError, match="a student with latent_channels 3, of a model with 4"):
        pipe.student = other
