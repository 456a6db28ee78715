"""The pipeline: a clip is a function of prompt and seed; sizes that cannot be made are named."""

import numpy as np
import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution, draw_per_sample, sample_generator
from vidgen.diffusion.paths import PATHS
from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.solvers import SAMPLERS
from vidgen.tokenizers.model import Encoded

FOREIGN = '{"vae": ["os", "system"], "transformer": [], "text_encoder": [], "scheduler": []}'
GREY = np.full((32, 16, 3), 128, np.uint8)
FAST = dict(num_frames=6, height=32, width=16, num_inference_steps=3, guidance_scale=3.0)


def test_a_clip_does_not_depend_on_its_batch(pipe):
    both = pipe(["a red circle", "a blue square grows slowly"], **FAST)
    alone = pipe("a blue square grows slowly", **FAST)
    assert torch.allclose(both.latents[1], alone.latents[0], atol=1e-5)
    two = pipe("a red circle", num_videos_per_prompt=2, **FAST)
    assert torch.allclose(two.latents[0], both.latents[0], atol=1e-5)
    assert not torch.allclose(two.latents[0], two.latents[1], atol=1e-2)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_clips_that_do_not_depend_on_their_batch(pipe, sampler):
    both = pipe("a star", num_videos_per_prompt=2, sampler=sampler, output_type="latent", **FAST).latents
    streams = [sample_generator(0, 1)]  # copy 1 of seed 0
    alone = pipe("a star", generator=streams, sampler=sampler, output_type="latent", **FAST).latents
    assert torch.isfinite(both).all() and torch.allclose(both[1], alone[0], atol=1e-4)


def test_given_latents_leave_later_noise_as_it_is(pipe):
    settings = {"sampler": "euler_ancestral", "output_type": "latent", **FAST}
    first = draw_per_sample(pipe.latent_shape(6, 32, 16), [sample_generator(0, 0)])
    assert torch.equal(pipe("a star", latents=first, **settings).latents, pipe("a star", **settings).latents)


@pytest.mark.parametrize("path", PATHS)
def test_sampling_starts_at_the_size_of_the_paths_noise(pipe, path, monkeypatch):
    scheduler = SchedulerConfig(time_distribution=TimeDistribution(path=path), prediction_type="v_prediction")
    other = VideoPipeline(pipe.vae, pipe.transformer, pipe.text_encoder, scheduler)
    seen = []
    monkeypatch.setitem(SAMPLERS, "euler", lambda denoise, x, times, path, **_: seen.append(x) or denoise(x, times[0]))
    assert torch.isfinite(other("a star", output_type="latent", **FAST).latents).all()
    noise = draw_per_sample(pipe.latent_shape(6, 32, 16), [sample_generator(0, 0)])
    assert torch.allclose(seen[0], {"edm": 6401.0**0.5}.get(path, 1.0) * noise, rtol=1e-5)


def test_seed_and_prompt_matter(pipe):
    base = pipe("a red circle", **FAST).latents
    assert torch.equal(pipe("a red circle", **FAST).latents, base)
    assert not torch.allclose(pipe("a red circle", seed=1, **FAST).latents, base, atol=1e-2)
    assert not torch.allclose(pipe("a star", **FAST).latents, base, atol=1e-4)


def test_streamed_decoding_equals_the_tokenizer(pipe):
    out = pipe("a red circle", **FAST)
    frames = pipe.vae.decode(Encoded(latents=out.latents, num_frames=6, height=32, width=16)).clamp(-1, 1)
    expected = ((frames[0].permute(1, 2, 3, 0) + 1) * 127.5).round().numpy()
    assert out.frames[0].shape == (6, 32, 16, 3) and out.frames[0].dtype == np.uint8
    assert np.abs(out.frames[0].astype(int) - expected.astype(int)).max() <= 1


def test_save_and_load_gives_the_same_clip(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    again = load_pipeline(str(tmp_path / "model"))
    assert again.scheduler == pipe.scheduler
    # Not equal bit for bit: the loaded convolutions may lie in another memory format.
    assert torch.allclose(again("a star", **FAST).latents, pipe("a star", **FAST).latents, atol=1e-5)


def test_callback_may_stop(pipe):
    def stop(step, x, x0):
        if step == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipe("a star", callback_on_step_end=stop, **FAST)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"height": 30}, "height 30 is not a multiple of 16.*try 32"),
        ({"width": 1}, "width 1"),
        ({"num_frames": -1}, "num_frames=-1 is not a whole number from 1"),
        ({"num_frames": 1.5}, "num_frames=1.5 is not a whole number from 1"),
        ({"num_frames": True}, "num_frames=True is not a whole number from 1"),
        ({"height": "x"}, "height='x' is not a whole number from 1"),
        ({"num_inference_steps": 0}, "num_inference_steps=0 is not a whole number from 1"),
        ({"guidance_scale": float("nan")}, "guidance_scale=nan is not a number from 0"),
        ({"num_videos_per_prompt": 10**18}, "num_videos_per_prompt=1000000000000000000 is not a whole number"),
        ({"sampler": "magic"}, "sampler 'magic' is unknown; choose one of euler, heun"),
        ({"output_type": "vhs"}, "output_type 'vhs'"),
        ({"latents": torch.zeros(1, 4, 1, 1, 1)}, "latents are"),
        ({"prompt": "x" * 300}, "too long"),
        ({"prompt": []}, "nothing to generate"),
        ({"generator": []}, "0 generators for 1 clips"),
    ],
)
def test_bad_calls_are_named(pipe, change, says):
    with pytest.raises(VidgenError, match=says):
        pipe(**{"prompt": "a star", **FAST, **change})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "model_index.json").unlink(), "model_index.json is missing"),
        (lambda f: (f / "model_index.json").write_text("{}"), "names no vae"),
        (lambda f: (f / "vae" / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda f: (f / "transformer" / "diffusion_pytorch_model.safetensors").unlink(), "is missing"),
        (lambda f: (f / "model_index.json").write_text(FOREIGN), "not of vidgen"),
    ],
)  # fmt: skip
def test_damaged_folders_are_named(pipe, tmp_path, spoil, says):
    pipe.save_pretrained(tmp_path / "model")
    spoil(tmp_path / "model")
    with pytest.raises(VidgenError, match=says):
        load_pipeline(str(tmp_path / "model"))


STAGES = {
    "text": (lambda p: p.text_encoder.norm.weight, {}, "the text encoder gave NaN or infinity; run it in float32"),
    "denoiser": (lambda p: p.transformer.patch_out.weight, {}, r"the denoiser gave NaN or infinity at step 1 of 3"),
    "decoding": (lambda p: next(p.vae.decoder.parameters()), {}, "the decoder of .* gave NaN or infinity"),
    "given": (lambda p: next(p.vae.encoder.parameters()), {"image": GREY}, "the encoder of .* gave NaN or infinity"),
    "latents": (None, {"latents": torch.full((1, 4, 3, 4, 2), torch.nan)}, "the latents given hold NaN"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_nan_names_its_stage(pipe, stage):
    find, said, line = STAGES[stage]
    kept = None if find is None else find(pipe).detach().clone()
    try:
        if find is not None:
            find(pipe).fill_(torch.nan)
        with pytest.raises(VidgenError, match=line):
            pipe("a star", **said, **FAST)
    finally:
        if find is not None:
            find(pipe).copy_(kept)
    assert torch.isfinite(pipe("a star", output_type="latent", **FAST).latents).all()


def test_unknown_model_lists_what_there_is(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(VidgenError, match="'nowhere' is neither a shipped model"):
        load_pipeline("nowhere")
