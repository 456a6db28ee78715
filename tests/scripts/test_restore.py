"""`vidgen restore`: the restored clip is the function's own, and what does not fit is one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.restoration import restore
from vidgen.samplers.conditioning.degradations import Blur, Downsample, Grayscale, Mask

PROMPT = "a red circle moves right"


@pytest.fixture
def files(tmp_path: Path, waves, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """In the current folder: v.mkv of 6 frames at 8 fps and 16x16, small.mkv of 4x4, and m.png, white on its left."""
    monkeypatch.chdir(tmp_path)
    frames, mask = waves(6, 16, 16), np.zeros((1, 16, 16, 3), np.uint8)
    mask[:, :, :8] = 255
    for name, clip in (("v.mkv", frames), ("small.mkv", frames[:, ::4, ::4]), ("m.png", mask)):
        write_video(np.ascontiguousarray(clip), name, fps=8)
    return frames


@pytest.mark.slow
@pytest.mark.parametrize("task", ["super_resolution", "deblurring", "colorization", "inpainting"])
def test_the_clip_is_the_functions_own(vidgen, model: Path, files: np.ndarray, task: str) -> None:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:, :8] = True
    x = to_tensor(files[:5])[None]
    source, words, y, degradation = {
        "super_resolution": ("small.mkv", ("--scale", 4), x[..., ::4, ::4], Downsample(4)),
        "deblurring": ("v.mkv", ("--sigma", 0.8), x, Blur(0.8)),
        "colorization": ("v.mkv", (), Grayscale().apply(x), Grayscale()),
        "inpainting": ("v.mkv", ("--mask", "m.png"), Mask(mask).apply(x), Mask(mask)),
    }[task]
    words = ("--task", task, *words, "--prompt", PROMPT, "-o", "out.mkv", "--seed", 3, "--strength", 0.9)
    ran = vidgen("restore", source, *words, "--model", model, "--json")
    assert ran.status == 0, ran.err
    assert "the first 5 frames are restored" in ran.err and json.loads(ran.out)["num_frames"] == 5
    want = restore(load_pipeline(str(model)), PROMPT, y, degradation, seed=3, strength=0.9).frames[0]
    assert np.array_equal(read_video("out.mkv").frames, want)


@pytest.mark.slow
def test_a_result_is_larger_than_its_clip_or_a_line_says_that_it_is_not(vidgen, model: Path, files: np.ndarray) -> None:
    write_video(np.ascontiguousarray(files[:5, ::2, ::2]), "half.mkv", fps=8)
    common = ("--task", "super_resolution", "--model", model, "-o", "out.mkv", "--num-inference-steps", 1)
    ran = vidgen("restore", "half.mkv", *common)
    assert ran.status == 0 and "32x32" in ran.out and "first" not in ran.err
    means = read_video("out.mkv").frames.reshape(5, 8, 4, 8, 4, 3).mean((2, 4))
    assert np.abs(means - read_video("half.mkv").frames).max() <= 1.0  # the clip is whole in the result, up to rounding
    line = "v.mkv: frames of 16x16 are resized to 4x4 first, and restored to 16x16"
    ran = vidgen("restore", "v.mkv", *common)
    assert ran.status == 0 and "16x16" in ran.out
    assert f"{line}; to keep all of it add --height 64 --width 64, 16 times the pixels" in ran.err
    assert line in vidgen("restore", "v.mkv", *common, "--height", 16).err
    ran = vidgen("restore", "v.mkv", *common, "--height", 64, "--width", 64)
    assert ran.status == 0 and "64x64" in ran.out and "resized" not in ran.err
    other = ("restore", "v.mkv", "--task", "deblurring", "--model", model, "-o", "out.mkv", "--num-inference-steps", 1)
    assert "v.mkv: frames of 16x16 are resized to 8x8 first" in vidgen(*other, "--height", 8, "--width", 8).err
    assert "resized" not in vidgen(*other).err


@pytest.mark.slow
def test_a_model_that_was_trained_for_the_task_is_told_it_and_says_so(
    vidgen, trained_model: Path, files: np.ndarray
) -> None:
    words = ("restore", "v.mkv", "--task", "colorization", "--model", trained_model, "-o", "out.mkv")
    pipe, y = load_pipeline(str(trained_model)), Grayscale().apply(to_tensor(files[:5])[None])
    for chosen, by in (((), "both"), (("--by", "task"), "task"), (("--by", "projection"), "projection")):
        ran = vidgen(*words, *chosen, "--json")
        assert ran.status == 0 and json.loads(ran.out)["by"] == by
        assert np.array_equal(read_video("out.mkv").frames, restore(pipe, "", y, Grayscale(), by=by).frames[0])
    ran = vidgen(*words)
    assert "5 frames of 16x16, by the trained task and projection, " in ran.out and "was trained by" not in ran.err
    blurred = ("restore", "v.mkv", "--task", "deblurring", "--model", trained_model, "-o", "out.mkv")
    assert ", by projection, " in vidgen(*blurred).out
    large = ("restore", "small.mkv", "--task", "super_resolution", "--scale", 2, *blurred[4:], "--height", 16)
    line = "super_resolution was trained by Downsample(scale=4), and this is Downsample(scale=2); --by projection is"
    assert line in vidgen(*large).err and line not in vidgen(*large, "--by", "projection").err
    line = "restoration by task needs a model that was trained for deblurring, and this one was trained for text_to_vid"
    assert line in vidgen(*blurred, "--by", "task").err.splitlines()[-1]


BAD = {
    "no clip": (("gone.mkv", "--task", "deblurring"), "gone.mkv: no such file or folder"),
    "no mask": (("v.mkv", "--task", "inpainting"), "--mask says what inpainting is to fill"),
    "a mask": (("v.mkv", "--task", "deblurring", "--mask", "m.png"), "--mask says what inpainting is to fill"),
    "scale": (("v.mkv", "--task", "super_resolution", "--scale", 5), "--scale 5 does not divide 16x16"),
    "sigma": (("v.mkv", "--task", "deblurring", "--sigma", 0), "the sigma of a blur is 0"),
    "strength": (("v.mkv", "--task", "deblurring", "--strength", 2), "'--strength': Input should be less than"),
    "size": (("v.mkv", "--task", "deblurring", "--height", 12), "height 12 is not a multiple of 8"),
    "latents": (("v.mkv", "--task", "deblurring", "-o", "x.safetensors"), "restored clips are pixels"),
    "mask length": (("v.mkv", "--task", "inpainting", "--mask", "three.mkv"), "three.mkv: 3 frames for a clip of 5"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(vidgen, model: Path, files: np.ndarray, case: str) -> None:
    write_video(files[:3], "three.mkv", fps=8)
    words, line = BAD[case]
    before = set(Path().iterdir())
    ran = vidgen("restore", *words, "--model", model)
    assert ran.status == 2 and line in ran.err.splitlines()[-1] and set(Path().iterdir()) == before
