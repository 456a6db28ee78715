"""`vidgen sample --model PRIOR`: clips, continuations, any length, and options that a prior has no use for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

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
from vidgen.samplers.masked.maskgit import ORDERS as MASK_ORDERS
from vidgen.samplers.masked.maskgit import MaskGITConfig
from vidgen.samplers.masked.schedules import SCHEDULES
from vidgen.scripts.cli.option_sets import MaskingOptions
from vidgen.scripts.sampling import memory
from vidgen.tokenizers.files.token_files import read_tokens
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

PROMPT = "a red circle moves right"
CLIP = PriorSchedule(num_frames=5, height=16, width=16, num_inference_steps=3)


@pytest.fixture(scope="module", params=["causal", "frames"])
def prior(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prior over clips of 5 frames of 16x16, with random weights."""
    return make_folder(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def filling_prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one that fills in the masks of a whole clip."""
    return make_folder("masked", tmp_path_factory)


def make_folder(order: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2)))
    text = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16))
    shape = {"codebook_sizes": (18,), "width": 32, "depth": 2, "head_dim": 16, "text_width": 16}
    network = TokenPrior(TokenPriorConfig(order=order, **shape))
    for parameter in network.parameters():  # a new one does not listen to the prompt
        torch.nn.init.normal_(parameter, std=0.3)
    folder = tmp_path_factory.mktemp("prior") / order
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
        (("--top-k", 0), "--top-k"),
        (("--min-p", 1.5), "--min-p"),
        (("--repetition-penalty", 0), "repetition_penalty"),
        (("--guidance-interval", "0.5,a"), "--guidance-interval '0.5,a' is not a list of numbers"),
        (("--guidance-interval", "0.5,0.2"), "guidance_interval"),
        (("--guidance-rescale", 0.5), "--guidance-rescale says nothing to a prior"),
        (("--decoder", "{other}", "--mask-order", "halton"), "--mask-order says nothing to {other}, the decoder of"),
        (("--decoder", "{other}", "--choice-temperature", 1), "--choice-temperature says nothing to {other}"),
    ],
)
def test_what_a_prior_has_no_use_for_is_refused(vidgen, prior: Path, tmp_path: Path, words, message: str) -> None:
    other = {"causal": "autoregressive", "frames": "any_order"}[prior.name]
    words, message = [str(word).format(other=other) for word in words], message.format(other=other)
    ran = vidgen("sample", PROMPT, "--model", prior, "-o", tmp_path / "x.mp4", *words)
    assert message in ran.error and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value"),
    [("--temperature", 0.5), ("--min-p", 0.1), ("--repetition-penalty", 2), ("--mask-order", "halton")],
)
def test_a_denoiser_has_no_use_for_settings_of_tokens(vidgen, model: Path, tmp_path: Path, option: str, value) -> None:
    ran = vidgen("sample", PROMPT, "--model", model, "-o", tmp_path / "x.mp4", option, value)
    assert f"{option} says nothing to a denoiser" in ran.error


FILTERS = ("--min-p", 0.2, "--repetition-penalty", 1.5, "--guidance-scale", 9, "--guidance-interval", "0.5,0.75")
MASKS = ("--mask-schedule", "linear", "--choice-temperature", 1.5, "--revised-share", 0.25)


def test_settings_of_tokens_reach_the_pipeline(vidgen, prior: Path, tmp_path: Path) -> None:
    pipe, out = load_generator(str(prior)), tmp_path / "x.safetensors"
    settings = {"min_p": 0.2, "repetition_penalty": 1.5, "guidance_scale": 9.0, "guidance_interval": (0.5, 0.75)}
    fills_in = pipe.prior.config.order == "frames"
    if fills_in:
        settings["masking"] = MaskGITConfig(schedule="linear", choice_temperature=1.5, revised_share=0.25)
    words = FILTERS + (MASKS if fills_in else ())
    ran = vidgen("sample", PROMPT, "-o", out, "--model", prior, "--seed", 5, *words)
    assert ran.status == 0, ran.err
    latents = read_tokens(out, pipe.vae).latents
    assert torch.equal(latents, pipe(PROMPT, seed=5, output_type="latent", **settings).latents)
    for name in settings:
        others = {other: value for other, value in settings.items() if other != name}
        assert not torch.equal(latents, pipe(PROMPT, seed=5, output_type="latent", **others).latents), name


def test_orders_of_masks_reach_the_pipeline(vidgen, filling_prior: Path, tmp_path: Path) -> None:
    pipe = load_generator(str(filling_prior))
    for order in ("random", "halton"):
        out = tmp_path / f"{order}.safetensors"
        assert vidgen("sample", PROMPT, "-o", out, "--model", filling_prior, "--mask-order", order).status == 0
        want = pipe(PROMPT, output_type="latent", masking=MaskGITConfig(order=order)).latents
        assert torch.equal(read_tokens(out, pipe.vae).latents, want)
    words = ("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", filling_prior, "--choice-temperature", 1)
    ran = vidgen(*words, "--mask-order", "halton")
    assert "--choice-temperature says nothing to a halton order of masks; leave it out" in ran.error
    ran = vidgen(*words, "--mask-order", "spiral")
    assert "--mask-order" in ran.error and "halton" in ran.error


def test_names_of_masks_are_those_of_the_sampler() -> None:
    hints = get_type_hints(MaskingOptions)
    for name, names in (("mask_schedule", SCHEDULES), ("mask_order", MASK_ORDERS)):
        literal, _ = get_args(hints[name])
        assert get_args(literal) == tuple(names)


def test_a_prior_over_latents_takes_an_order_without_confidence() -> None:
    config = TokenPriorConfig(channels=3, order="masked")
    assert MaskingOptions(mask_schedule="arccos").read(config, "", "m") == MaskGITConfig(
        schedule="arccos", order="random"
    )
    assert MaskingOptions().read(config, "", "m") is None
    with pytest.raises(VidgenError, match="--choice-temperature says nothing to a random order"):
        MaskingOptions(choice_temperature=1.0).read(config, "", "m")


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
    assert report["temperature"] == 0.5 and report["n"] == 2 and "guidance" not in report and "masking" not in report
    ran = vidgen("evaluate", "generation", "--model", prior, "--n", 2, "--guidance", "apg")
    assert "--guidance says nothing to a prior" in ran.error


def test_distance_of_a_prior_is_measured(vidgen, prior: Path) -> None:
    words = ("evaluate", "distance", "--model", prior, "--features", prior / "vae", "--n", 3)
    ran = vidgen(*words, "--temperature", 0.5, "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert report["temperature"] == 0.5 and report["rows"][0]["n_generated"] == 3
    assert "--sampler says nothing to a prior" in vidgen(*words, "--sampler", "heun").error
    assert "--guidance says nothing to a prior" in vidgen(*words, "--guidance", "apg").error


def test_evaluations_say_which_settings_of_tokens_they_were_made_by(vidgen, filling_prior: Path) -> None:
    options = (*FILTERS, *MASKS, "--n", 3, "--json")
    for words in (("generation",), ("distance", "--features", filling_prior / "vae")):
        ran = vidgen("evaluate", *words, "--model", filling_prior, *options)
        assert ran.status == 0, ran.err
        report = json.loads(ran.out)
        assert report["min_p"] == 0.2 and report["guidance_interval"] == [0.5, 0.75]
        assert report["masking"]["schedule"] == "linear" and report["masking"]["choice_temperature"] == 1.5
