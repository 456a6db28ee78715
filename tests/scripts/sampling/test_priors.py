"""`vidgen sample --model PRIOR`: clips, continuations, any length, and options that a prior has no use for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.loading import load_generator
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.scripts.sampling import memory
from vidgen.tokenizers.files.token_files import read_tokens
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

PROMPT = "a red circle moves right"
CLIP = PriorSchedule(num_frames=5, height=16, width=16, num_inference_steps=3)


@pytest.fixture(scope="module", params=["causal", "frames"])
def prior(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prior over clips of 5 frames of 16x16, with random weights."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2)))
    text = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16))
    shape = {"codebook_sizes": (18,), "width": 32, "depth": 2, "head_dim": 16, "text_width": 16}
    network = TokenPrior(TokenPriorConfig(order=request.param, **shape))
    folder = tmp_path_factory.mktemp("prior") / request.param
    PriorPipeline(tokenizer.eval(), network.eval(), text.eval(), CLIP).save_pretrained(folder)
    return folder


def test_clips_are_the_pipelines_own(vidgen, prior: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    ran = vidgen(
        "sample", PROMPT, "-o", out, "--model", prior, "--seed", 5, "--temperature", 0.7, "--top-k", 9, "--json"
    )
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["clips"][0] | {"num_frames": 5, "height": 16} == json.loads(ran.out)["clips"][0]
    pipe = load_generator(str(prior))
    want = pipe(PROMPT, seed=5, temperature=0.7, top_k=9, output_type="latent").latents
    assert torch.equal(read_tokens(out, pipe.vae).latents, want)
    video = tmp_path / "x.mp4"
    assert vidgen("sample", PROMPT, "-o", video, "--model", prior, "--num-videos-per-prompt", 2).status == 0
    assert read_video(tmp_path / "x-1.mp4").frames.shape == (5, 16, 16, 3)


def test_a_clip_goes_on_from_a_video_at_any_length(vidgen, prior: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)
    write_video(frames, tmp_path / "in.mkv", fps=8)
    for option, name in (("--video", "in.mkv"), ("--image", "in.mkv")):
        out = tmp_path / "out.safetensors"
        words = ("sample", PROMPT, option, tmp_path / name, "--model", prior, "--num-frames", 21, "-o", out)
        assert vidgen(*words).status == 0
        pipe = load_generator(str(prior))
        tokens = read_tokens(out, pipe.vae)
        assert tokens.num_frames == 21 and tokens.latents.shape[2] == pipe.vae.latent_frames(21)
        out.unlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sampler", "heun"), "--sampler says nothing to a prior"),
        (("--guidance", "apg"), "--guidance says nothing to a prior"),
        (("--cache-bound", 0.1), "--cache-bound says nothing to a prior"),
        (("--window", 9), "--window says nothing to a prior"),
        (("--top-p", 0), "top_p"),
    ],
)
def test_what_a_prior_has_no_use_for_is_refused(vidgen, prior: Path, tmp_path: Path, words, message: str) -> None:
    ran = vidgen("sample", PROMPT, "--model", prior, "-o", tmp_path / "x.mp4", *words)
    assert message in ran.error and not list(tmp_path.iterdir())


def test_a_denoiser_has_no_use_for_the_temperature(vidgen, model: Path, tmp_path: Path) -> None:
    ran = vidgen("sample", PROMPT, "--model", model, "-o", tmp_path / "x.mp4", "--temperature", 0.5)
    assert "--temperature says nothing to a denoiser" in ran.error


def test_what_a_prior_keeps_is_held_against_memory(prior: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = load_generator(str(prior))
    needed = 4 * 2 * 2 * 2 * 32 * 2 * 4  # bytes, with and without the prompt, keys and values, depth, width, cells
    monkeypatch.setattr(memory, "check_decoding", lambda *_: None)
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed)
    for frames in (5, 500):  # a longer one rolls on in a window
        memory.check_sampling(pipe, (frames, 16, 16), 1, is_window=False, decodes=True)
    with pytest.raises(VidgenError, match="of 2 clips of 5x16x16 takes .* lower --batch-size"):
        memory.check_sampling(pipe, (5, 16, 16), 2, is_window=False, decodes=True)


def test_adherence_of_a_prior_is_measured(vidgen, prior: Path) -> None:
    ran = vidgen("evaluate", "generation", "--model", prior, "--n", 2, "--temperature", 0.5, "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert report["temperature"] == 0.5 and report["n"] == 2 and "guidance" not in report
    ran = vidgen("evaluate", "generation", "--model", prior, "--n", 2, "--guidance", "apg")
    assert "--guidance says nothing to a prior" in ran.error


def test_distance_of_a_prior_is_measured(vidgen, prior: Path) -> None:
    words = ("evaluate", "distance", "--model", prior, "--features", prior / "vae", "--n", 3)
    ran = vidgen(*words, "--temperature", 0.5, "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert report["temperature"] == 0.5 and report["rows"][0]["n_generated"] == 3
    assert "--sampler says nothing to a prior" in vidgen(*words, "--sampler", "heun").error
