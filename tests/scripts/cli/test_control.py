"""`vidgen sample` under control: the functions' own clips; one line for what does not go together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.writing import write_video
from vidgen.diffusion.noise import sample_generator
from vidgen.pipelines.control.animation import animate
from vidgen.pipelines.control.clip_motion import clip_noise
from vidgen.pipelines.control.editing import edit_video
from vidgen.pipelines.control.paths import follow_path
from vidgen.pipelines.loading import load_pipeline
from vidgen.samplers.control.trajectories import read_trajectory
from vidgen.tokenizers.files.token_files import read_tokens

PROMPT = "a red circle moves right"
POINTS, BOX = "4,4 12,12", "2,2,10,10"
VIDEO = ("--video", "v.mkv", "--strength", 0.6)


@pytest.fixture
def files(tmp_path: Path, waves, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """In the current folder v.mkv, 5 frames of 16x16 at 8 fps, and a.png, its first."""
    monkeypatch.chdir(tmp_path)
    frames = waves(5, 16, 16)
    write_video(frames, "v.mkv", fps=8)
    write_video(frames[:1], "a.png", fps=8)
    return frames


@pytest.mark.parametrize("case", ["path", "animate", "pan", "noise", "edit"])
def test_the_clip_is_the_functions_own(vidgen, model: Path, files: np.ndarray, case: str) -> None:
    pipe, path, box = load_pipeline(str(model)), read_trajectory(POINTS), (2.0, 2.0, 10.0, 10.0)
    own = {"generator": [sample_generator(0, 0)], "output_type": "latent"}

    def from_noise():
        return pipe(PROMPT, latents=clip_noise(pipe, files, own["generator"], share=0.7), **own)

    words, make = {
        "path": (
            ("--path", POINTS, "--image", "a.png", "--box", BOX),
            lambda: follow_path(pipe, PROMPT, path, image=files[0], box=box, **own),
        ),
        "animate": (
            ("--path", POINTS, "--animate", "--box", BOX),
            lambda: animate(pipe, PROMPT, path, box=box, **own),
        ),
        "pan": (("--pan", POINTS), lambda: animate(pipe, PROMPT, path, subject=False, **own)),
        "noise": (("--warp-noise", "v.mkv", "--noise-share", 0.7), from_noise),
        "edit": (
            (*VIDEO, "--source-prompt", "a star"),
            lambda: edit_video(pipe, PROMPT, files, "a star", strength=0.6, **own),
        ),
    }[case]
    ran = vidgen("sample", PROMPT, "-o", "x.safetensors", "--model", model, *words)
    assert ran.status == 0, ran.err
    torch.testing.assert_close(read_tokens(Path("x.safetensors")).latents, make().latents)


BAD = {
    "two ways": (("--path", POINTS, "--pan", POINTS), "--path and --pan make a clip in two ways; leave one out"),
    "no path": (("--path", "4,4"), "path '4,4' is none: give two points X,Y or more"),
    "a box of nothing": (("--box", BOX), "--box says something of a path; give one with --path"),
    "pictures of nothing": (("--animate",), "--animate says something of a path"),
    "a box of three": (("--path", POINTS, "--box", "1,2,3"), "--box '1,2,3' is none"),
    "no video": (("--warp-noise", "gone.mkv"), "gone.mkv: no such file"),
    "a short video": (("--warp-noise", "a.png"), "a.png has 1 frames at 8 fps, and the clip 5"),
    "an edit of nothing": (("--source-prompt", "a star"), "give --video and --strength, and no other"),
    "an edit and a picture": ((*VIDEO, "--source-prompt", "a star", "--image", "a.png"), "and no other pictures"),
    "a path and a video": (("--path", POINTS, *VIDEO), "--video does not go with --path"),
    "a long clip": (("--path", POINTS, "--num-frames", 9), "--path needs the clip in one go, and 9 frames are over"),
    "a solver": ((*VIDEO, "--source-prompt", "a star", "--sampler", "heun"), "leave --sampler and --cache-bound out"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_go_together_is_one_line(vidgen, model: Path, files: np.ndarray, case: str) -> None:
    words, line = BAD[case]
    assert line in vidgen("sample", PROMPT, "-o", "x.mp4", "--model", model, *words).error
    assert not Path("x.mp4").exists()


def test_control_is_scored(vidgen, model: Path, tmp_path: Path) -> None:
    ran = vidgen("evaluate", "control", "--model", model, "--n", 1, "--only", "none", "--num-inference-steps", 1)
    assert ran.status == 0 and "pixels off" in ran.out, ran.err
    line = vidgen("evaluate", "control", "--model", model, "--only", "magic").error
    assert "control 'magic' is unknown; choose of none, path" in line
