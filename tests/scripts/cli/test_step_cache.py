"""Caching on the command line: the clip is the pipeline's own, and what was skipped is said."""

import json
from pathlib import Path

import torch

from vidgen.pipelines.loading import load_pipeline
from vidgen.samplers.step_cache import StepCacheConfig
from vidgen.tokenizers.files.token_files import read_tokens

PROMPT = "a red circle moves right"


def test_the_clip_is_the_pipelines_own_and_passes_are_counted(vidgen, model: Path, tmp_path: Path) -> None:
    out, steps = tmp_path / "x.safetensors", ("--num-inference-steps", 5)
    ran = vidgen("sample", PROMPT, "-o", out, "--model", model, "--cache-bound", 0.6, *steps, "--json")
    assert ran.status == 0, ran.err
    caching = StepCacheConfig(threshold=0.6)
    want = load_pipeline(str(model))(PROMPT, step_cache=caching, num_inference_steps=5, output_type="latent").latents
    torch.testing.assert_close(read_tokens(out).latents, want, atol=1e-5, rtol=1e-5)
    report = json.loads(ran.out)
    assert report["passes"] == {"run": caching.passes.run, "skipped": caching.passes.skipped}
    assert caching.passes.run + caching.passes.skipped == 10 and report["cache_by"] == "first_block"
    ran = vidgen("sample", PROMPT, "-o", out, "--model", model, "--cache-bound", 0, *steps)
    assert "0 of 10 passes skipped" in ran.out


def test_evaluation_says_what_was_skipped(vidgen, model: Path) -> None:
    words = ("evaluate", "generation", "--model", model, "--n", 2, "--cache-bound", 0.9, "--cache-by", "step")
    report = json.loads(vidgen(*words, "--json").out)
    assert sum(report["passes"].values()) == 8 and report["cache_by"] == "step"
    assert "of 8 passes skipped" in vidgen(*words).out


def test_bad_input_is_one_line(vidgen, model: Path, tmp_path: Path) -> None:
    words = ("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", model)
    assert "--cache-bound" in vidgen(*words, "--cache-bound", 2).error
    assert "step cache: kind='magic' is unknown" in vidgen(*words, "--cache-bound", 0.1, "--cache-by", "magic").error
