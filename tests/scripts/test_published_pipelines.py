"""Pipelines of diffusers at the command line: sampled, and read for features, like any other model."""

import json

import pytest

FAST = ("--num-inference-steps", 2)
SIZE = ("--num-frames", 9, "--height", 32, "--width", 32)
KINDS = {"wan-unipc": "unipc", "cogvideox": "euler", "ltx": "euler"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_sample(vidgen, published, kind, tmp_path):
    from vidgen.data.reading import read_video

    folder, _ = published(kind)
    out = tmp_path / "out.mp4"
    ran = vidgen("sample", "a red circle", "-o", out, "--model", folder, *SIZE, *FAST, "--keep-latents")
    assert ran.status == 0, ran
    assert read_video(out).frames.shape == (9, 32, 32, 3)
    latents, again = tmp_path / "out.latents.safetensors", tmp_path / "again.mp4"
    ran = vidgen("tokenizer", "decode", latents, "--model", folder, "-o", again, "--dtype", "float32")
    assert ran.status == 0 and read_video(again).frames.shape == (9, 32, 32, 3), ran


@pytest.mark.parametrize("kind", KINDS)
def test_extract(vidgen, published, kind, clip, tmp_path):
    from vidgen.representations.bank import FeatureBank

    folder, _ = published(kind)
    bank = tmp_path / "bank"
    size = ("--num-frames", 9, "--size", "32x32")
    ran = vidgen("extract", folder, clip, "-o", bank, *size, "--noise-levels", "0.2", "--baselines")
    assert ran.status == 0, ran
    found, width = FeatureBank.load(bank), 32 if kind == "cogvideox" else 24
    assert found.X("tokenizer.latents").shape == (1, 4)
    assert found.X("dit.blocks.1@t=0.20").shape == found.X("random.dit.blocks.1@t=0.20").shape == (1, width)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_schedule(vidgen, published, kind, tmp_path):
    folder, _ = published(kind)
    words = ("schedule", "show", folder, *SIZE, "--num-inference-steps", 4)
    report = json.loads(vidgen(*words, "--json").out)
    assert report["sampler"] == KINDS[kind] and len(report["steps"]) == 5 and report["steps"][-1]["t"] == 0.0
    assert report["path"] == ("table" if kind == "cogvideox" else "flow") and report["quantiles"] == []
    assert f"diffusers' {report['time']['scheduler']}; the levels of training are not said" in vidgen(*words).out
    error = vidgen(*words, "--plot", tmp_path / "plot.png").error
    assert "--plot draws the levels of training" in error


def test_sample_from_an_image(vidgen, published, clip, tmp_path):
    from vidgen.data.reading import read_video

    out = tmp_path / "out.mp4"
    model = published("wan-image")[0]
    words = ("sample", "a red circle", "-o", out, "--model", model, *SIZE, *FAST)
    assert "makes clips from an image" in vidgen(*words).error
    assert vidgen(*words, "--image", clip).status == 0
    assert read_video(out).frames.shape == (9, 32, 32, 3)


def test_conditions_that_the_model_cannot_take(vidgen, published, clip):
    folder, _ = published("cogvideox")
    error = vidgen("sample", "a red circle", "--model", folder, "--image", clip, *SIZE, "-o", "out.mp4").error
    assert "this CogVideoXTransformer3DModel has one noise level for all frames of a clip" in error
    error = vidgen("sample", "a red circle", "--model", folder, "--attention", "plain", *SIZE, "-o", "out.mp4").error
    assert "choose auto or sdpa" in error


@pytest.mark.parametrize("kind", ["cogvideox", "ltx"])
def test_autoencoders(vidgen, published, clip, kind, tmp_path):
    folder, _ = published(kind)
    words = (clip, "--model", folder, "--size", "32x32", "--num-frames", 9, "--dtype", "float32")
    tokens = tmp_path / "clip.safetensors"
    assert vidgen("tokenizer", "encode", *words, "-o", tokens).status == 0 and tokens.is_file()
    report = json.loads(vidgen("tokenizer", "reconstruct", *words, "--json").out)
    assert report["clips"][0]["frames"] == 9
    ran = vidgen("tokenizer", "evaluate", clip, "--model", folder, "--size", "32x32", "--dtype", "float32", "--json")
    assert ran.status == 0 and json.loads(ran.out)["clips"][0]["frames"] == 9, ran
    assert "takes a clip in one go" in vidgen("tokenizer", "encode", *words, "-o", tokens, "--max-memory", "1GB").error
