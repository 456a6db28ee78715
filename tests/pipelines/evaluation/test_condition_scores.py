"""Scores of conditions: what is given is what the name says; kept pixels come out as the tokenizer codes them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgen.data.shapes import COLOURS, ShapeWorld, ShapeWorldConfig, check, classify, describe_unnamed
from vidgen.errors import VidgenError
from vidgen.models.ip_adapter import IPAdapterConfig, IPAdapterEncoder
from vidgen.pipelines.evaluation.adherence import held_out_prompts, score_generation
from vidgen.pipelines.evaluation.condition_scores import masked_psnr, score_condition
from vidgen.pipelines.evaluation.conditions import (
    CONDITIONS,
    choose_conditions,
    half_length,
    outside_of_objects,
    recolour,
    served_conditions,
)
from vidgen.pipelines.video import VideoPipeline

FAST = dict(num_inference_steps=2)


@pytest.fixture(scope="module")
def world():
    return ShapeWorld(ShapeWorldConfig(height=16, width=16, num_frames=5, split="held_out"))


@pytest.fixture(scope="module")
def pipe(pipe):
    """Clips of the world's size by default."""
    scheduler = replace(pipe.scheduler, num_frames=5, height=16, width=16)
    return VideoPipeline(pipe.vae, pipe.transformer, pipe.text_encoder, scheduler)


def test_half_a_clip_is_whole_latent_frames():
    assert [half_length(n, 4) for n in (5, 9, 17, 18, 33)] == [1, 5, 9, 9, 17] and half_length(9, 1) == 5


def test_objects_lie_within_what_is_made_anew():
    clips = ShapeWorld(ShapeWorldConfig(split="held_out", backgrounds=("plain",)))
    for i in range(6):
        clip = clips[i]
        kept = outside_of_objects(clip)
        assert 0.0 < kept.mean() < 1.0
        shown = clip.video[:, kept[0]].astype(int)
        assert np.abs(shown - np.median(shown, axis=1, keepdims=True)).max() <= 2  # background, nothing else


def test_a_recoloured_clip_is_the_same_in_another_colour():
    clips = ShapeWorld(ShapeWorldConfig(split="held_out"))
    other = recolour(clips[0], clips)
    names, asked = list(COLOURS), clips[0].labels.objects[0]
    seen = classify(other)[0]
    assert seen.colour == names[(names.index(asked.colour) + 1) % len(names)]
    result = check(other, clips[0].labels)
    assert result.shape and result.motion and not result.colour


def test_psnr_of_some_pixels():
    truth = np.full((2, 4, 4, 3), 100, np.uint8)
    video, where = truth.copy(), np.zeros((2, 4, 4), bool)
    video[0] += 51  # a fifth of the range: 20 log10(5) dB
    where[0] = True
    assert masked_psnr(video, truth, where) == pytest.approx(13.9794, abs=1e-4)
    assert masked_psnr(video, truth, ~where) == 100.0 and masked_psnr(video, truth, where & ~where) is None


@pytest.mark.parametrize("name", ["image", "first_last", "continuation", "inpainting", "video_to_video"])
def test_what_is_kept_scores_as_the_tokenizer_does(pipe, world, name):
    row = score_condition(pipe, world, name, 2, **FAST)
    assert row["condition"] == name and row["n"] == 2 and set(row["ci"]) == {"colour", "shape", "motion", "all"}
    if name in ("image", "continuation"):  # of the others the decoder sees what was made, too
        assert row["kept_psnr"]["mean"] == pytest.approx(row["ceiling_psnr"]["mean"], abs=0.05)
    assert (row["kept_psnr"] is None) == (name == "video_to_video")
    assert np.isfinite(row["rest_psnr"]["mean"]) and row["rest_psnr"]["n"] == 2


@pytest.mark.parametrize("name", ["filling", "super_resolution", "colorization", "deblurring"])
def test_restorations_are_held_against_what_was_left(pipe, world, name):
    row = score_condition(pipe, world, name, 2, **FAST)
    assert np.isfinite(row["degraded_psnr"]["mean"]) and np.isfinite(row["rest_psnr"]["mean"])
    gain = row["rest_psnr"]["mean"] - row["degraded_psnr"]["mean"]
    assert row["by"] == "projection" and row["gain_psnr"]["mean"] == pytest.approx(gain)
    if name == "filling":  # whole pixels, which stay
        assert row["kept_psnr"]["mean"] == 100.0 or row["kept_psnr"] is None
    if name == "super_resolution":  # block means that stay as they are cannot be worse off by more than their detail
        assert row["rest_psnr"]["mean"] > row["degraded_psnr"]["mean"] - 12


def test_text_alone_is_the_adherence_of_generation(pipe, world):
    row = score_condition(pipe, world, "text", 2, seed=3, **FAST)
    plain = score_generation(pipe, held_out_prompts(world, 2), seed=3, **FAST)
    assert [clip["seen"] for clip in row["clips"]] == [clip["seen"] for clip in plain["clips"]]
    assert row["kept_psnr"] is None and row["ceiling_psnr"] is None


def test_reference_images_stand_for_the_words_that_are_left_out(pipe, world, monkeypatch):
    torch.manual_seed(0)
    shape = IPAdapterConfig(latent_channels=4, text_width=16, width=16, depth=1, head_dim=16)
    parts = (pipe.vae, pipe.transformer, pipe.text_encoder, pipe.scheduler)
    sighted, seen = VideoPipeline(*parts, IPAdapterEncoder(shape).eval().requires_grad_(False)), []
    assert set(served_conditions(sighted)) == set(CONDITIONS)
    assert set(CONDITIONS) - set(served_conditions(pipe)) == {"reference", "no_reference"}
    monkeypatch.setattr(
        VideoPipeline, "__call__", lambda self, prompt, _made=VideoPipeline.__call__, **given: (
            seen.append((prompt, given.get("reference"))) or _made(self, prompt, **given)
        ),
    )  # fmt: skip
    rows = {name: score_condition(sighted, world, name, 2, **FAST) for name in ("reference", "no_reference")}
    labels = [world.sample_labels(i) for i in range(2)]
    prompts = [describe_unnamed(each) for each in labels]
    assert [prompt for prompt, _ in seen] == 2 * prompts
    for row in rows.values():
        assert [clip["prompt"] for clip in row["clips"]] == prompts
        assert [clip["asked"][0][0] for clip in row["clips"]] == [each.objects[0].colour for each in labels]
        assert row["kept_psnr"] is None
    for each, (_, picture) in zip(labels, seen[:2], strict=True):
        assert [thing.colour for thing in classify(picture[None])] == [each.objects[0].colour]
    assert all(picture is None for _, picture in seen[2:])
    with pytest.raises(VidgenError, match="this model has no image_prompt"):
        score_condition(pipe, world, "reference", 1, **FAST)


def test_the_world_itself_would_score_one(pipe):
    clips = ShapeWorld(ShapeWorldConfig(split="held_out"))

    class Perfect:
        vae, decode = pipe.vae, pipe.decode

        def __call__(self, prompt, **given):
            found = next(clips[i] for i in range(2) if clips[i].caption == prompt)
            return type("Out", (), {"frames": [found.video]})

    with torch.inference_mode():
        row = score_condition(Perfect(), clips, "video_to_video", 2)
    assert row["all"] == 1.0 and row["rest_psnr"]["mean"] == 100.0


def test_unknown_conditions_are_named():
    assert choose_conditions([]) == list(CONDITIONS) and choose_conditions(["image"]) == ["image"]
    with pytest.raises(VidgenError, match="condition 'magic' is unknown; choose of text, image, first_last"):
        choose_conditions(["image", "magic"])
    with pytest.warns(FutureWarning, match="condition 'colourising' is now called 'colorization'"):
        assert choose_conditions(["colourising"]) == ["colorization"]


def test_the_first_clip_is_shown_with_what_is_given_of_it(pipe, world):
    looks = []
    for name in ("image", "video_to_video", "colorization"):
        score_condition(pipe, world, name, 2, look=lambda *clips: looks.append(clips), **FAST)
    assert len(looks) == 3
    truth, given, made = looks[0]
    assert np.array_equal(truth, world[0].video) and made.shape == truth.shape
    assert np.array_equal(given[0], truth[0]) and (given[1:] == 128).all()
    assert not (looks[1][1] == 128).all() and np.ptp(looks[2][1].astype(int), axis=-1).max() <= 1  # grey
