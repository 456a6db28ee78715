"""Commands on a model with a student beside it: who makes the clips, and that the output says so."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.lora.training import TrainedLoRA
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.video import VideoPipeline
from vidgen.tokenizers.files.token_files import read_tokens

PROMPT = "a red circle moves right"


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """The tiny model with a causal student of one step."""
    pipe = load_pipeline(str(model))
    network = pipe.transformer.with_chunks((1, 1))
    torch.manual_seed(1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    own = {"sampler": "consistency", "num_inference_steps": 1, "guidance_scale": 1.0}
    schedule = replace(pipe.scheduler, **own, distilled_steps=(1,), distilled_guidance=4.0)
    pipe.student = VideoPipeline(pipe.vae, network, pipe.text_encoder, schedule)
    pipe.save_pretrained(tmp_path / "both")
    return tmp_path / "both"


def sample(vidgen, folder: Path, out: Path, *words: object) -> tuple[torch.Tensor, dict]:
    ran = vidgen("sample", PROMPT, "-o", out, "--model", folder, "--json", *words)
    assert ran.status == 0, ran
    return read_tokens(out).latents, json.loads(ran.out)


def test_a_prompt_is_the_students_and_steps_the_models(vidgen, folder: Path, tmp_path: Path) -> None:
    pipe = load_pipeline(str(folder))
    latents, report = sample(vidgen, folder, tmp_path / "s.safetensors")
    torch.testing.assert_close(latents, pipe.student(PROMPT, output_type="latent").latents)
    assert report["student"] is True
    latents, report = sample(vidgen, folder, tmp_path / "m.safetensors", "--num-inference-steps", 2)
    torch.testing.assert_close(latents, pipe(PROMPT, output_type="latent").latents)
    assert report["student"] is False
    ran = vidgen("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", folder)
    assert "by its student of 1 step" in ran.out


def test_a_lora_is_the_models(vidgen, folder: Path, tmp_path: Path) -> None:
    pipe = load_pipeline(str(folder))
    TrainedLoRA(pipe.transformer, 2, 2.0).save(tmp_path / "lora", dtype=None)
    _, report = sample(vidgen, folder, tmp_path / "l.safetensors", "--lora", tmp_path / "lora")
    assert report["student"] is False


def test_a_long_clip_is_the_causal_students_stream(vidgen, folder: Path, tmp_path: Path) -> None:
    pipe = load_pipeline(str(folder))
    latents, report = sample(vidgen, folder, tmp_path / "s.safetensors", "--num-frames", 13)
    chunks = [chunk.latents for chunk in pipe.student.stream(PROMPT, 13)]
    torch.testing.assert_close(latents, torch.cat(chunks, dim=2))
    assert report["student"] is True and len(chunks) == 4
    _, report = sample(vidgen, folder, tmp_path / "w.safetensors", "--num-frames", 13, "--overlap", 1)
    assert report["student"] is False


@pytest.mark.parametrize(("words", "steps"), [((), 1), (("--num-inference-steps", 2), 2)])
def test_generation_is_measured_of_who_would_make_it(vidgen, folder: Path, words: tuple, steps: int) -> None:
    ran = vidgen("evaluate", "generation", "--model", folder, "--n", 2, "--json", *words)
    assert ran.status == 0 and json.loads(ran.out)["num_inference_steps"] == steps, ran
    assert np.isfinite(json.loads(ran.out)["all"])
