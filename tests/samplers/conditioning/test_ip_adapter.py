"""Reference images in the pipeline's call: beside the prompt, not in the negative one; in the folder where there are
any."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgen.data.frames import fit_frame
from vidgen.data.writing import write_video
from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import draw_per_sample, sample_generator
from vidgen.errors import VidgenError
from vidgen.models.ip_adapter import IPAdapterConfig, IPAdapterEncoder, beside_text
from vidgen.models.text.cache import TextCache
from vidgen.pipelines.image_first import sample_image_first
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.rollout import WindowConfig, rollout
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.ip_adapter import encode_reference, read_reference
from vidgen.samplers.guidance import cfg
from vidgen.samplers.solvers import SAMPLERS

FAST = dict(num_inference_steps=2, guidance_scale=3.0, output_type="latent")
PROMPT = "it moves left"


@pytest.fixture(scope="module")
def sighted(pipe):
    torch.manual_seed(5)
    shape = IPAdapterConfig(latent_channels=4, text_width=16, tokens=3, width=16, depth=1, head_dim=16)
    scheduler = replace(pipe.scheduler, num_frames=5, height=16, width=16)
    encoder = IPAdapterEncoder(shape).eval().requires_grad_(False)
    return VideoPipeline(pipe.vae, pipe.transformer, pipe.text_encoder, scheduler, encoder)


@pytest.fixture(scope="module")
def blind(sighted):
    return VideoPipeline(sighted.vae, sighted.transformer, sighted.text_encoder, sighted.scheduler)


@pytest.fixture
def pictures(waves):
    return list(waves(5, 16, 16)[[0, 2, 4]])


def test_the_negative_prompt_stands_without_the_picture(sighted, pictures):
    text, null = sighted.text_encoder([PROMPT]), sighted.text_encoder([""])
    latents = sighted.vae.encode(torch.stack(read_reference(pictures[0], (16, 16)))[:, :, None]).latents
    shown = beside_text(text, sighted.image_prompt(latents))
    shape = sighted.latent_shape(5, 16, 16)
    one, other = (
        make_denoiser(sighted.transformer, sighted.path, "flow_prediction", text=words) for words in (shown, null)
    )
    noise, times = draw_per_sample(shape, [sample_generator(0, 0)]), sighted.time_for(shape).steps(2)
    want = SAMPLERS["euler"](cfg(one, other, 3.0), noise, times, sighted.path)
    for passes in ("sequential", "batched"):
        out = sighted(PROMPT, reference=pictures[0], guidance_passes=passes, **FAST).latents
        torch.testing.assert_close(out, want, atol=1e-5, rtol=1e-5)


def test_pictures_matter_and_leaving_them_out_changes_nothing(sighted, blind, pictures):
    plain = sighted(PROMPT, **FAST).latents
    assert torch.equal(plain, blind(PROMPT, **FAST).latents)
    one, two = (sighted(PROMPT, reference=picture, **FAST).latents for picture in pictures[:2])
    assert (one - plain).abs().max() > 1e-3 and (one - two).abs().max() > 1e-3
    rows = sighted([PROMPT, "a star"], reference=pictures[0], **FAST).latents  # all clips of a call share it
    torch.testing.assert_close(rows[:1], one, atol=1e-5, rtol=1e-5)


def test_several_pictures_give_more_tokens_in_their_order(sighted, pictures):
    def tokens(*numbers):
        return encode_reference(sighted.image_prompt, sighted.vae, [pictures[i] for i in numbers], (16, 16))

    assert tokens(0, 1, 2).shape == (9, 16)
    torch.testing.assert_close(tokens(2, 0), torch.cat([tokens(2), tokens(0)]), atol=1e-5, rtol=1e-5)
    # What attends to them knows no order: the clip is the same whichever comes first.
    one, two = (sighted(PROMPT, reference=[pictures[i] for i in order], **FAST).latents for order in ((0, 1), (1, 0)))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    assert (one - sighted(PROMPT, reference=pictures[0], **FAST).latents).abs().max() > 1e-3


def test_files_and_pictures_of_any_size(sighted, pictures, tmp_path):
    large = pictures[1].repeat(3, axis=0).repeat(2, axis=1)
    write_video(large[None], tmp_path / "large.png", fps=8)
    read = read_reference([tmp_path / "large.png", large, str(tmp_path / "large.png")], (16, 16))
    assert all(torch.equal(frame, read[0]) for frame in read) and read[0].shape == (3, 16, 16)
    assert torch.equal(read_reference(fit_frame(large, (16, 16)), (16, 16))[0], read[0])
    assert torch.equal(read_reference(read[0], (16, 16))[0], read[0])  # a tensor in [-1, 1]


def test_save_and_load(sighted, blind, pictures, tmp_path):
    sighted.save_pretrained(tmp_path / "sighted")
    again = load_pipeline(str(tmp_path / "sighted"))
    assert again.image_prompt.config == sighted.image_prompt.config
    want = sighted(PROMPT, reference=pictures[0], **FAST).latents
    torch.testing.assert_close(again(PROMPT, reference=pictures[0], **FAST).latents, want, atol=1e-5, rtol=1e-5)
    blind.save_pretrained(tmp_path / "blind")
    assert "image_prompt" not in json.loads((tmp_path / "blind" / "model_index.json").read_text())
    assert not (tmp_path / "blind" / "image_prompt").exists()
    assert load_pipeline(str(tmp_path / "blind")).image_prompt is None


def test_long_clips_stories_and_two_steps_take_them_too(sighted, pictures):
    story, windows = [(0, PROMPT), (5, "a star")], WindowConfig(num_frames=5)
    said = {"windows": windows, "num_inference_steps": 2, "guidance_scale": 3.0}
    made, plain = ([p.latents for p in rollout(sighted, story, 9, **said, **given)]
                   for given in ({"reference": pictures[0]}, {}))  # fmt: skip
    torch.testing.assert_close(made[0], sighted(PROMPT, reference=pictures[0], **FAST).latents, atol=1e-5, rtol=1e-5)
    assert len(made) == 2 and all((a - b).abs().max() > 1e-3 for a, b in zip(made, plain, strict=True))
    out = sample_image_first(sighted, PROMPT, reference=pictures[0], **FAST).latents
    assert (out - sample_image_first(sighted, PROMPT, **FAST).latents).abs().max() > 1e-3


def test_cached_prompts_stand_beside_pictures(sighted, pictures, tmp_path):
    own = VideoPipeline(sighted.vae, sighted.transformer, sighted.text_encoder, sighted.scheduler, sighted.image_prompt)
    own.text_cache = TextCache(tmp_path)
    want = sighted(PROMPT, reference=pictures[0], **FAST).latents
    for _ in range(2):
        out = own(PROMPT, reference=pictures[0], **FAST).latents
        torch.testing.assert_close(out, want, atol=1e-5, rtol=1e-5)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2  # of the prompts alone, whatever picture is beside them


def test_what_is_no_reference_is_named(sighted, blind, pictures, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    bad = {
        "empty": ([], "reference is an empty list"),
        "gone": (tmp_path / "gone.png", "gone.png: no such file"),
        "broken": ([pictures[0], tmp_path / "text.png"], "text.png"),
        "grey": (np.zeros((16, 16), np.uint8), r"reference image 0 is of shape \(16, 16\)"),
        "clip": ([pictures[0], torch.zeros(3, 2, 16, 16)], "reference image 1 is of shape"),
        "number": (3, "reference image 0 is int"),
    }
    for reference, line in bad.values():
        with pytest.raises(VidgenError, match=rf"^[^\n]*{line}[^\n]*$"):
            sighted(PROMPT, reference=reference, **FAST)
    with pytest.raises(VidgenError, match="this model has no image_prompt to read reference images with; leave"):
        blind(PROMPT, reference=pictures[0], **FAST)


def test_nan_of_the_encoder_is_named(sighted, pictures):
    kept = sighted.image_prompt.out.bias.clone()
    try:
        sighted.image_prompt.out.bias.fill_(torch.nan)
        with pytest.raises(VidgenError, match="the image prompt encoder gave NaN or infinity; run it in float32"):
            sighted(PROMPT, reference=pictures[0], **FAST)
    finally:
        sighted.image_prompt.out.bias.copy_(kept)
