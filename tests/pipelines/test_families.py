"""Folders of diffusers: the same weights, noise, steps and guidance give what diffusers' own pipelines give."""

import copy
import inspect
import warnings

import numpy as np
import pytest
import torch
from einops import rearrange
from safetensors.torch import save_file

import vidgen
from vidgen.diffusion.noise import draw_per_sample, sample_generator
from vidgen.diffusion.paths import add_noise
from vidgen.errors import VidgenError
from vidgen.pipelines.families import PIPELINES
from vidgen.pipelines.rollout import rollout
from vidgen.pipelines.wan.adapter import NativeWanDenoiser
from vidgen.representations.extractor import FeatureExtractor
from vidgen.samplers.solvers import SAMPLERS
from vidgen.samplers.step_cache import StepCacheConfig
from vidgen.scripts.cli.prompts import Prompt, check_prompts

NATIVE = ("wan-native", "wan-native-frames", "wan-native-two")
KINDS = (
    *("wan", "wan-unipc", "wan-frames", "wan-two", *NATIVE),
    *("cogvideox", "cogvideox-rotary", "cogvideox-1.5", "ltx"),
)
PROMPTS = ["a red circle moves right", "a  blue &amp;amp; square"]
SIZE = dict(height=32, width=32, num_frames=9)
FAST = dict(**SIZE, num_inference_steps=4, guidance_scale=4.0)


def to_theirs(kind: str, z: torch.Tensor) -> torch.Tensor:
    """Latents (b, c, t, h, w) as a class of pipelines takes them."""
    if kind.startswith("cogvideox"):
        return rearrange(z, "b c t h w -> b t c h w")
    return rearrange(z, "b c t h w -> b (t h w) c") if kind.startswith("ltx") else z


def draw(pipe, count: int, size: dict = SIZE) -> torch.Tensor:
    shape = pipe.latent_shape(size["num_frames"], size["height"], size["width"])
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "cogvideox-rotary"])  # whose sampler draws noise
def test_latents_are_those_of_diffusers(published, kind):
    folder, theirs = published(kind)
    pipe = vidgen.load_pipeline(str(folder))
    z = draw(pipe, 2)
    wanted = theirs(
        PROMPTS, negative_prompt=["cat", "cat"], latents=to_theirs(kind, z), output_type="latent", **FAST
    ).frames
    found = pipe(PROMPTS, negative_prompt="cat", latents=z, output_type="latent", **FAST).latents
    lead = z.shape[2] - found.shape[2]  # of CogVideoX 1.5, which drops them before it decodes
    assert lead == (kind == "cogvideox-1.5") and (wanted - to_theirs(kind, z)).abs().max() > 0.1
    wanted = wanted[:, lead:] if lead else wanted
    assert (to_theirs(kind, found) - wanted).abs().max() < 1e-4
    assert (pipe(PROMPTS[0], seed=1, output_type="latent", **FAST).latents - found[:1]).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["wan", "cogvideox", "cogvideox-1.5", "ltx", "ltx-noise"])
def test_frames_are_those_of_diffusers(published, kind, monkeypatch):
    from diffusers.pipelines.ltx import pipeline_ltx

    folder, theirs = published(kind)
    pipe = vidgen.load_pipeline(str(folder))
    z, fast = draw(pipe, 1), {**FAST, "num_inference_steps": 2, "guidance_scale": 1.0}
    # Some decoders of LTX-Video add noise inside, by torch's own generator; before, the pipeline draws some in vain.
    monkeypatch.setattr(pipeline_ltx, "randn_tensor", lambda shape, **_: torch.zeros(shape))
    torch.manual_seed(0)
    wanted = theirs(PROMPTS[:1], latents=to_theirs(kind, z), output_type="np", **fast).frames[0]
    found = pipe(PROMPTS[0], latents=z, **fast).frames[0]
    assert found.shape == wanted.shape == (9, 32, 32, 3)
    assert np.abs(found - 255 * wanted).max() <= 0.51


def test_a_stochastic_scheduler_is_followed_but_for_its_noise(published, monkeypatch):
    from diffusers.schedulers import scheduling_dpm_cogvideox as scheduling

    from vidgen.samplers.solvers import stochastic

    folder, theirs = published("cogvideox-rotary")
    pipe = vidgen.load_pipeline(str(folder))
    z = draw(pipe, 1)
    fixed = torch.randn(z.shape, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(stochastic, "draw_like", lambda x, generator: fixed)
    monkeypatch.setattr(scheduling, "randn_tensor", lambda shape, **_: to_theirs("cogvideox", fixed))
    wanted = theirs(PROMPTS[:1], latents=to_theirs("cogvideox", z), output_type="latent", **FAST).frames
    found = pipe(PROMPTS[0], latents=z, output_type="latent", **FAST).latents
    assert pipe.scheduler.sampler == "dpmpp_2m_sde"
    assert (to_theirs("cogvideox", found) - wanted).abs().max() < 1e-4


@torch.no_grad()
def test_native_features_are_the_outputs_of_the_classes_blocks(published):
    folder, theirs = published("wan-native")
    pipe = vidgen.load_pipeline(str(folder))
    assert isinstance(pipe.transformer, NativeWanDenoiser)
    x, level, text = draw(pipe, 2), torch.tensor([0.3, 0.7]), pipe.text_encoder(PROMPTS)
    seen = []
    hooks = [block.register_forward_hook(lambda _, __, out: seen.append(out)) for block in theirs.transformer.blocks]
    wanted = theirs.transformer(x, 1000 * level, text.tokens).sample
    for hook in hooks:
        hook.remove()
    for words in (text, pipe.transformer.prepare_text(text)):
        walked = dict(pipe.transformer.iter_features(x, level, words))
        assert list(walked) == ["patches", "blocks.0", "blocks.1", "out"]
        assert (walked["out"] - wanted).abs().max() < 1e-4
        for i, hidden in enumerate(seen):
            assert (walked[f"blocks.{i}"].flatten(1, 3) - hidden).abs().max() < 1e-4
    assert [info.name for info in pipe.transformer.feature_info] == ["blocks.0", "blocks.1"]
    twin = pipe.transformer.fresh().eval()
    assert twin.config == pipe.transformer.config and twin(x, level, text).shape == x.shape


def test_native_transformers_take_guidance_and_caching_of_ours(published):
    pipe = vidgen.load_pipeline(str(published("wan-native")[0]))
    z = draw(pipe, 1)
    settings = dict(latents=z, output_type="latent", **FAST)
    plain, perturbed = (pipe(PROMPTS[0], guidance=name, **settings).latents for name in ("cfg", "pag"))
    assert perturbed.isfinite().all() and (perturbed - plain).abs().max() > 1e-3
    caching = StepCacheConfig(threshold=0.9)
    pipe(PROMPTS[0], step_cache=caching, **settings)
    assert caching.passes.skipped > 0
    two = vidgen.load_pipeline(str(published("wan-native-two")[0])).transformer
    text = two.prepare_text(pipe.text_encoder(PROMPTS[:1]))
    for level in (0.95, 0.5, 0.95):
        t = torch.tensor([level])
        assert torch.allclose(two(z, t, text), two(z, t, text.text), atol=1e-5)


@torch.no_grad()
def test_loras_of_the_class_fit_the_native_transformer(published, tmp_path):
    folder, theirs = published("wan-native")
    pipe, generator = vidgen.load_pipeline(str(folder)), torch.Generator().manual_seed(5)
    factors = {"lora_A": torch.randn(2, 32, generator=generator), "lora_B": torch.randn(32, 2, generator=generator)}
    layer = "blocks.1.attn1.to_q"
    save_file({f"transformer.{layer}.{name}.weight": f for name, f in factors.items()}, tmp_path / "style.safetensors")
    vidgen.load_lora(pipe.transformer, tmp_path / "style.safetensors", scale=0.5)
    changed = copy.deepcopy(theirs.transformer)
    changed.get_submodule(layer).weight += 0.5 * factors["lora_B"] @ factors["lora_A"]
    x, level, text = draw(pipe, 1), torch.tensor([0.4]), pipe.text_encoder(PROMPTS[:1])
    wanted = changed(x, 1000 * level, text.tokens).sample
    assert (pipe.transformer(x, level, text) - wanted).abs().max() < 1e-4
    assert (wanted - theirs.transformer(x, 1000 * level, text.tokens).sample).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wan-unipc", "cogvideox"])
def test_every_sampler_of_ours_runs_them(published, kind):
    pipe = vidgen.load_pipeline(str(published(kind)[0]))
    made = [
        pipe(PROMPTS[0], sampler=name, output_type="latent", **{**FAST, "num_inference_steps": 4}).latents
        for name in SAMPLERS
    ]
    assert all(z.isfinite().all() and z.std() < 10.0 for z in made)
    assert all((z - made[0]).abs().max() > 1e-3 for z in made[1:])


@pytest.mark.parametrize("kind", ["wan", "cogvideox", "ltx"])
def test_prompts_are_padded_and_masked_as_diffusers_does_it(published, kind):
    folder, theirs = published(kind)
    encoder, length = vidgen.load_pipeline(str(folder)).text_encoder, PIPELINES[type(theirs).__name__].prompts.length
    defaults = inspect.signature(type(theirs).__call__).parameters
    assert length == defaults["max_sequence_length"].default
    for prompts in (PROMPTS, ["red " * length]):
        tokens, *rest = theirs.encode_prompt(prompts, do_classifier_free_guidance=False, max_sequence_length=length)
        if len(prompts) == 1:
            with pytest.warns(UserWarning, match=f"a prompt of {length + 1} tokens is cut to the {length}"):
                found = encoder(prompts)
        else:
            found = encoder(prompts)
        assert torch.equal(found.tokens, tokens)
        # Wan's transformers attend to the zeros of the padding; the mask is of use to ours, which has one for all.
        mask = tokens.any(-1) if kind == "wan" else rest[0] if kind == "ltx" else torch.ones(tokens.shape[:2])
        assert torch.equal(found.mask, mask.bool())


def test_prompts_that_will_be_cut_are_announced_once_and_before_work(published, capsys):
    encoder = vidgen.load_pipeline(str(published("wan")[0])).text_encoder
    length = encoder.rule.length
    prompts = [
        Prompt(text=text, place=f"p.txt: line {i}: ") for i, text in enumerate(["red", "red " * length], start=1)
    ]
    capsys.readouterr()  # what making the folder printed
    check_prompts(encoder, prompts, "")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: p.txt: line 2: a prompt of {length + 1} tokens is cut to the {length}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder([prompt.text for prompt in prompts])


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_shown_the_schedulers_timesteps(published, kind):
    schedule = vidgen.load_pipeline(str(published(kind)[0])).scheduler
    if kind == "ltx":  # which stretches its levels between two ends
        with pytest.raises(VidgenError, match="makes no schedule of num_inference_steps=1; take more"):
            schedule.time_distribution.for_size(4, 3).steps(1)
        with pytest.raises(VidgenError, match="makes no schedule of 12000000 tokens a clip: its shift"):
            schedule.time_distribution.for_size(4_000_000, 3).steps(2)
    for n in (2, 3, 7, 20, 50):
        times = schedule.time_distribution.for_size(4, 3)
        levels = times.steps(n)
        assert len(levels) == n + 1 and (levels.diff() < 0).all() and levels[-1] == 0.0
        scheduler = type(schedule.scheduler).from_config(schedule.scheduler.config)
        if kind == "ltx":
            scheduler.set_timesteps(sigmas=np.linspace(1, 1 / n, n), mu=0.95 + 1.1 * (12 - 4) / 60)
        else:
            scheduler.set_timesteps(n)
        assert torch.equal(schedule.clock(levels[:-1].float()), scheduler.timesteps.float())


@pytest.mark.parametrize("kind", ["wan", "cogvideox", "ltx"])
def test_defaults_are_those_of_the_pipelines_call(published, kind):
    folder, theirs = published(kind)
    pipe, wanted = vidgen.load_pipeline(str(folder)), inspect.signature(type(theirs).__call__).parameters
    for name in ("num_inference_steps", "guidance_scale", "num_frames", "height", "width"):
        default = wanted[name].default
        if default is None:  # of CogVideoX: what the transformer was trained at
            default = {"num_frames": 9, "height": 32, "width": 48}[name]
        assert getattr(pipe.scheduler, name) == default, name
    assert kind != "ltx" or pipe.scheduler.fps == wanted["frame_rate"].default


@pytest.mark.parametrize("kind", ["wan-frames", "wan-native-frames"])
def test_an_image_is_the_first_frame_as_in_wan_2_2(published, kind):
    from diffusers import WanImageToVideoPipeline

    folder, theirs = published(kind)
    pipe = vidgen.load_pipeline(str(folder))
    parts = {name: part for name, part in theirs.components.items() if name != "transformer_2"}
    theirs = WanImageToVideoPipeline(**parts, expand_timesteps=True)
    theirs.set_progress_bar_config(disable=True)
    image, z = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3)), draw(pipe, 1)
    # its own cleaning of prompts needs a package that is not among ours
    text = {"prompt_embeds": pipe.text_encoder([PROMPTS[0]]).tokens}
    text["negative_prompt_embeds"] = pipe.text_encoder([""]).tokens
    wanted = theirs(image[None], latents=z, output_type="latent", **text, **FAST).frames
    found = pipe(PROMPTS[0], image=2 * image - 1, latents=z, output_type="latent", **FAST).latents
    assert (found - wanted).abs().max() < 1e-4
    assert (found - pipe(PROMPTS[0], latents=z, output_type="latent", **FAST).latents).abs().max() > 0.1


def test_an_image_is_the_first_frame_as_in_ltx(published, monkeypatch):
    from diffusers import LTXImageToVideoPipeline
    from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution as Posterior

    folder, theirs = published("ltx")
    pipe = vidgen.load_pipeline(str(folder))
    theirs = LTXImageToVideoPipeline(**theirs.components)
    theirs.set_progress_bar_config(disable=True)
    monkeypatch.setattr(Posterior, "sample", lambda self, generator=None: self.mean)  # ours is the mode
    image, z = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3)), draw(pipe, 1)
    first = pipe.vae.encode(2 * image[None, :, None] - 1).latents
    start = torch.cat([first, z[:, :, 1:]], dim=2)  # which it does itself, unless latents are given
    wanted = theirs(image[None], PROMPTS[0], latents=to_theirs("ltx", start), output_type="latent", **FAST).frames
    found = pipe(PROMPTS[0], image=2 * image - 1, latents=z, output_type="latent", **FAST).latents
    assert (to_theirs("ltx", found) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["wan", "cogvideox", "cogvideox-1.5", "ltx"])
def test_features_are_the_outputs_of_the_classes_blocks(published, kind):
    folder, theirs = published(kind)
    pipe = vidgen.load_pipeline(str(folder))
    video = torch.rand(2, 3, 9, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1
    layers = ["tokenizer.latents", "dit.blocks.1"]
    out = FeatureExtractor(pipe, layers, noise_levels=[0.3], pool="none", prompt=PROMPTS[0])(video, ids=["a", "b"])
    latents = rearrange(out.features["tokenizer.latents"], "b t h w c -> b c t h w")
    eps = draw_per_sample(latents.shape[1:], [sample_generator(0, name) for name in "ab"])
    level = torch.full((2,), 0.3)
    text, seen = pipe.text_encoder(PROMPTS[:1] * 2), []
    block = getattr(pipe.transformer.network, pipe.transformer.blocks_name)[1]
    hook = block.register_forward_hook(lambda module, args, kept: seen.append(kept))
    with torch.no_grad():
        pipe.transformer(add_noise(latents, eps, level, pipe.path), level, text)
    hook.remove()
    hidden = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    found = out.features["dit.blocks.1@t=0.30"]
    assert torch.allclose(found.flatten(1, 3), hidden, atol=1e-5)
    whole = torch.tensor([[0.0, 4.0, 8.0]]) if kind != "cogvideox-1.5" else torch.tensor([[0.0, 8.0]])
    assert torch.equal(out.times["dit.blocks.1@t=0.30"].float(), whole.expand(2, -1))


@pytest.mark.parametrize("kind", ["wan", "wan-native", "cogvideox"])
def test_frames_are_not_given_where_all_share_a_level(published, kind):
    pipe = vidgen.load_pipeline(str(published(kind)[0]))
    with pytest.raises(VidgenError, match="one noise level for all frames of a clip, so no frames can be given"):
        pipe(PROMPTS[0], image=torch.zeros(3, 32, 32), **FAST)
    video = torch.zeros(3, 9, 32, 32)
    assert pipe(PROMPTS[0], video=video, strength=0.5, **FAST).frames[0].shape == (9, 32, 32, 3)


def test_clips_longer_than_a_window_need_a_decoder_that_streams(published):
    pipe = vidgen.load_pipeline(str(published("ltx")[0]))
    with pytest.raises(VidgenError, match="ltx_4x16x16_4ch decodes in one go: 161 frames at most"):
        next(rollout(pipe, PROMPTS[0], 200, height=32, width=32))
