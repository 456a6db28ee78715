"""Sizes are held against memory before anything is made: one line, nothing written; and what works is never refused."""

from pathlib import Path

import pytest
import torch

from vidgen.checkpoints import memory
from vidgen.pipelines.loading import load_pipeline
from vidgen.profiling.live_memory import LiveBytes
from vidgen.representations import extraction_memory
from vidgen.representations.feature_sets import FeatureSets
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime import step_memory
from vidgen.train.tasks.tokenizer import TokenizerTask


@pytest.fixture
def free(monkeypatch):
    """`free(n)`: from then on so many bytes are free."""

    def set_free(count: float) -> None:
        for module in (memory, extraction_memory, step_memory):
            monkeypatch.setattr(module, "free_bytes", lambda device: int(count))

    return set_free


TOO_LARGE = {
    "encode": ("tokenizer", "encode", "{clip}", "-o", "out.safetensors", "--size", 65536),
    "reconstruct": ("tokenizer", "reconstruct", "{clip}", "-o", "out.mp4", "--size", 65536),
    "frames of features": ("extract", "{model}", "{clip}", "-o", "bank", "--num-frames", 10**7, "--size", 64),
    "size of features": ("extract", "{model}", "{clip}", "-o", "bank", "--size", 65536),
    "size of drawings": ("data", "synthesize", "-o", "out", "--count", 1, "--size", 65536),
    "frames of drawings": ("data", "synthesize", "-o", "out.mp4", "--count", 10**6, "--num-frames", 10**7),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_cannot_be_is_one_line(vidgen, model: Path, clip: Path, tmp_path: Path, monkeypatch, free, name) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    free(30e9)
    words = [str(word).format(clip=clip, model=model) for word in TOO_LARGE[name]]
    words += ["--model", model] if words[0] == "tokenizer" else []
    ran = vidgen(*words)
    assert ran.status == 2 and "Traceback" not in ran.err
    assert "GB at least, and 30.0GB are free on cpu; " in ran.err and ("lower" in ran.err or "smaller" in ran.err)
    assert sorted(tmp_path.iterdir()) == before


def test_a_frame_that_fits_in_pieces_is_pointed_to_them(vidgen, model: Path, clip: Path, tmp_path: Path, free) -> None:
    words = ("tokenizer", "encode", clip, "-o", tmp_path / "out.safetensors", "--model", model, "--size", 512)
    free(6e7)
    line = vidgen(*words).err
    assert "encoding frames of 512x512 takes" in line and "in smaller pieces they would fit: add --max-memory 6" in line
    assert not (tmp_path / "out.safetensors").exists()
    assert vidgen(*words, "--max-memory", "4GB").status == 0  # whatever is free now


def test_decoding_is_held_against_memory(vidgen, model: Path, clip: Path, tmp_path: Path, free) -> None:
    tokens = tmp_path / "x.safetensors"
    assert vidgen("tokenizer", "encode", clip, "-o", tokens, "--model", model, "--size", 128).status == 0
    words = ("tokenizer", "decode", tokens, "-o", tmp_path / "x.mp4", "--model", model)
    free(3e5)  # room for the weights, also where they are float32
    line = vidgen(*words).error
    assert "decoding frames of 128x128 takes" in line and "free some, or encode the clip at a smaller --size" in line
    free(2e7)
    line = vidgen(*words).error
    assert "decoding frames of 128x128 takes" in line and "in smaller pieces they would fit: add --max-memory" in line
    assert sorted(tmp_path.iterdir()) == sorted((clip, tokens))
    assert vidgen(*words, "--max-memory", "4GB").status == 0


def test_tokens_of_a_shard_are_counted(vidgen, model: Path, clip: Path, tmp_path: Path, free) -> None:
    words = ("extract", model, clip, "-o", tmp_path / "bank", "--num-frames", 9, "--layers", "tokenizer.latents")
    free(10**6)
    assert vidgen(*words).status == 0
    window = {"num_frames": 9, "size": [16, 16]}
    features = FeatureSets(load_pipeline(str(model)), baselines=False, views=False, seed=0, pool="none")
    with pytest.raises(
        memory.VidgenError, match="keeping the features of 1000000 clips of 9x16x16.*choose --pool mean"
    ):
        extraction_memory.check_extraction(features, window, batch=1, rows=10**6)


def test_a_pass_of_an_encoder_takes_no_less_than_is_counted(model: Path) -> None:
    extractor = FeatureSets(load_pipeline(str(model)), baselines=False, views=False, seed=0, pool="none").extractors[""]
    shape = (2, 3, 9, 64, 64)
    with LiveBytes() as live:
        extractor(torch.zeros(shape), ["a", "b"])
    assert 0.3 * live.peak <= extraction_memory.pass_bytes(extractor, shape) <= live.peak


def test_a_training_step_takes_no_less_than_is_counted(tmp_path: Path, free) -> None:
    changes = ["preset=tiny", "batch_size=2", "data.num_frames=9", "data.size=[32,32]", "autocast=float32"]
    changes += ["data.sources=[{kind: shapes}]", f"out={tmp_path / 'run'}", "data.validation_clips=1"]
    recipe = load_recipe("tokenizer_default", changes)
    task = TokenizerTask(recipe)
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
    with LiveBytes() as live:
        task.loss(batch, torch.Generator())
    free(live.peak)
    TokenizerTask(recipe)  # is not refused
    free(0.2 * live.peak)
    with pytest.raises(memory.VidgenError, match="a training step of 2 clips of 9x32x32 takes .* lower batch_size"):
        TokenizerTask(recipe)
    free(1e5)
    with pytest.raises(memory.VidgenError, match="a batch of 2 clips of 9x32x32 takes .* lower batch_size"):
        TokenizerTask(recipe)
