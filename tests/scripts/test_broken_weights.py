"""Weights that are not what they should be, at the command line: the stage is named, and nothing made is lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgen.checkpoints.checkpoint import WEIGHTS_NAME
from vidgen.pipelines.loading import load_pipeline
from vidgen.tokenizers.files.token_files import read_tokens

PROMPT = "a red circle moves right"


@pytest.fixture
def spoil(model: Path, tmp_path: Path) -> Callable[[str, str, float], Path]:
    """A copy of the model with one tensor of a part filled with a number."""

    def make(part: str, name: str, value: float) -> Path:
        shutil.copytree(model, tmp_path / "broken")
        path = tmp_path / "broken" / part / WEIGHTS_NAME
        tensors = load_file(path)
        save_file(tensors | {name: torch.full_like(tensors[name], value)}, path)
        return tmp_path / "broken"

    return make


def test_a_denoiser_that_breaks_names_the_step_and_keeps_the_latents(vidgen, spoil, tmp_path: Path) -> None:
    broken, out = spoil("transformer", "patch_in.weight", 6e4), tmp_path / "x.mp4"
    words = ("sample", PROMPT, "-o", out, "--model", broken, "--dtype", "float16", "--num-inference-steps", 3)
    line = vidgen(*words).error
    assert "the denoiser gave NaN or infinity at step 1 of 3 (noise level 1)" in line
    assert f"the noisy latents before that step are in {tmp_path / 'x.stopped.safetensors'}" in line
    assert {path.name for path in tmp_path.iterdir()} == {"broken", "x.stopped.safetensors"}
    tokens = read_tokens(tmp_path / "x.stopped.safetensors", load_pipeline(str(broken), dtype=torch.float16).vae)
    assert tokens.latents.isfinite().all() and tokens.extra["prompt"] == PROMPT


def test_a_tokenizer_that_breaks_names_the_layer_and_keeps_the_latents(vidgen, spoil, tmp_path: Path) -> None:
    broken, out = spoil("vae", "decoder.layers.0.mix1.layers.0.weight", 6e4), tmp_path / "x.mp4"
    line = vidgen("sample", PROMPT, "-o", out, "--model", broken, "--dtype", "float16").error
    assert "the decoder of kl_causal_4x8x8_4ch gave NaN or infinity in float16, first in layers.0" in line
    assert "; run it in float32 or bfloat16; the latents are safe; go on with: vidgen tokenizer decode" in line
    assert {path.name for path in tmp_path.iterdir()} == {"broken", "x.latents.safetensors"}
    for words in (
        ("tokenizer", "decode", tmp_path / "x.latents.safetensors", "--model", broken, "-o", out),
        ("tokenizer", "reconstruct", tmp_path / "x.mp4", "--model", broken),
    ):
        assert vidgen(*words, "--dtype", "float16").status == 2
    assert not out.exists()


@pytest.mark.parametrize("part", ["vae", "transformer", "text_encoder"])
def test_weights_with_another_sum_are_refused_before_any_work(vidgen, model: Path, tmp_path: Path, part: str) -> None:
    shutil.copytree(model, tmp_path / "broken")
    (tmp_path / "broken" / part / f"{WEIGHTS_NAME}.sha256").write_text("0" * 64)
    line = vidgen("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", tmp_path / "broken").error
    assert f"{part}/{WEIGHTS_NAME} is not what was published" in line and "delete it and fetch it again" in line
    assert {path.name for path in tmp_path.iterdir()} == {"broken"}
