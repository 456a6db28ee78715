"""What sampling takes is counted without doing it; what does not fit is refused before work, with what would."""

import re
from pathlib import Path

import pytest
import torch

from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.loading import load_pipeline
from vidgen.profiling.live_memory import LiveBytes
from vidgen.scripts.sampling import memory as sampling_memory
from vidgen.scripts.sampling.memory import HEADROOM, TEXT_TOKENS, pass_bytes
from vidgen.tokenizers.streaming.chunks import Plan
from vidgen.tokenizers.streaming.memory_plan import MemoryModel

PROMPT = "a red circle moves right"
SHAPE = (4, 2, 2, 2)  # of the tiny model's latents


@pytest.fixture
def free(monkeypatch):
    """`free(n)`: from then on so many bytes are free."""
    return lambda count: monkeypatch.setattr(sampling_memory, "free_bytes", lambda device: int(count))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_pass_is_counted_as_it_is(model: Path, batch: int) -> None:
    network = load_pipeline(str(model)).transformer
    network.set_attention("sdpa")
    text = TextEncoding(
        tokens=torch.randn(batch, TEXT_TOKENS, 16), mask=torch.ones(batch, TEXT_TOKENS, dtype=torch.bool)
    )
    x, levels = torch.randn(batch, 4, 5, 8, 8), torch.rand(batch)
    with torch.no_grad(), LiveBytes() as live:
        network(x, levels, text)
    counted = pass_bytes(network, (4, 5, 8, 8), batch)
    assert 0.9 * live.peak <= counted <= HEADROOM * live.peak


@pytest.mark.slow
def test_what_would_fit_is_said(vidgen, model: Path, free, tmp_path: Path) -> None:
    network = load_pipeline(str(model)).transformer

    def needed(clips: int, frames: int) -> int:
        return round(HEADROOM * pass_bytes(network, (4, frames, 2, 2), clips))

    words = ("sample", PROMPT, "--model", model, "-o", tmp_path / "x.safetensors")
    four = (*words, "--num-videos-per-prompt", 4)
    free(needed(4, 2) - 1)
    line = vidgen(*four).error
    assert re.search(r"sampling 4 clips at once of 5x16x16 takes .*MB beside the weights, and .*MB are free", line)
    assert line.endswith("; --batch-size 3 would fit")
    assert vidgen(*four, "--batch-size", 3).status == 0
    free(needed(1, 9) - 1)
    assert vidgen(*words, "--num-frames", 60, "--window", 60).error.endswith("; --num-frames 29 would fit")
    assert vidgen(*words, "--num-frames", 90, "--window", 60).error.endswith("; --window 29 would fit")
    free(needed(1, 1) - 1)
    assert "not even one frame of that size would fit; make it smaller" in vidgen(*four).error
    assert len(list(tmp_path.glob("*.safetensors"))) == 4  # of the one that fitted
    free(1e12)
    assert vidgen(*words).status == 0


@pytest.mark.slow
def test_a_frame_that_can_only_be_decoded_in_tiles(vidgen, model: Path, free, tmp_path: Path, monkeypatch) -> None:
    vae = load_pipeline(str(model)).vae
    memory = MemoryModel(vae)
    whole = memory.peak("decode", 512, 512, Plan(latents=1)) - memory.weights
    monkeypatch.setattr(sampling_memory, "pass_bytes", lambda *_: 0)
    words = ("sample", PROMPT, "--model", model, "-o", tmp_path / "x.mp4", "--height", 512, "--width", 512)
    free(0.7 * whole)
    line = vidgen(*words).error
    assert (
        "decoding frames of 512x512 takes" in line and "add --output-type latent, then `vidgen tokenizer decode" in line
    )
    free(0.01 * whole)
    assert "is too little: frames of 512x512 take at least" in vidgen(*words).error
    assert not list(tmp_path.iterdir())


def test_networks_that_need_numbers_are_not_judged(vidgen, model: Path, free, tmp_path: Path, monkeypatch) -> None:
    def fail(*_: object) -> int:
        raise NotImplementedError

    monkeypatch.setattr(sampling_memory, "pass_bytes", fail)
    free(1000)
    assert vidgen("sample", PROMPT, "--model", model, "-o", tmp_path / "x.safetensors").status == 0


def test_a_clip_whose_latents_do_not_fit_is_refused_before_its_first_window(
    vidgen, model: Path, free, tmp_path: Path
) -> None:
    free(10**8)
    line = vidgen("sample", PROMPT, "--model", model, "-o", tmp_path / "x.mp4", "--num-frames", 10**7).error
    assert "the latents of a clip of 10000000x" in line and "are free; lower --num-frames" in line
    assert not list(tmp_path.iterdir())
