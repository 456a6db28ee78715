"""`vidgen sample` with images, videos, masks and stories: the pipeline's own clips; one line for what does not fit."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.ip_adapter import IPAdapterConfig, IPAdapterEncoder
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.rollout import Draft, WindowConfig, rollout
from vidgen.samplers.solvers.stepping import SamplingError
from vidgen.tokenizers.files.token_files import read_tokens

PROMPT = "a red circle moves right"


@pytest.fixture
def files(tmp_path: Path, waves, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """In the current folder: a.png and b.png, v.mkv of 5 frames at 8 fps, all 16x16, and m.png, white on its left."""
    monkeypatch.chdir(tmp_path)
    frames, mask = waves(5, 16, 16), np.zeros((1, 16, 16, 3), np.uint8)
    mask[:, :, :8] = 255
    for name, clip in (("a.png", frames[:1]), ("b.png", frames[4:]), ("m.png", mask), ("v.mkv", frames)):
        write_video(clip, name, fps=8)
    Path("file.txt").write_text("no picture", encoding="utf-8")
    return frames


def latents_of(vidgen, model: Path, *words: object) -> torch.Tensor:
    ran = vidgen("sample", "-o", "x.safetensors", "--model", model, *words)
    assert ran.status == 0, ran.err
    return read_tokens(Path("x.safetensors")).latents


@pytest.mark.parametrize("case", ["images", "strength", "mask", "continued"])
def test_the_clip_is_the_pipelines_own(vidgen, model: Path, files: np.ndarray, case: str) -> None:
    mask = np.zeros((16, 16), bool)
    mask[:, :8] = True
    words, given = {
        "images": (("--image", "a.png", "--last_image", "b.png"), {"image": files[0], "last_image": files[4]}),
        "strength": (("--video", "v.mkv", "--strength", 0.4), {"video": files, "strength": 0.4}),
        "mask": (("--video", "v.mkv", "--mask", "m.png"), {"video": files, "mask": mask}),
        "continued": (("--video", "v.mkv"), {"video": files[-1:]}),  # of 2 latent frames, windows share 1
    }[case]
    want = load_pipeline(str(model))(PROMPT, output_type="latent", **given).latents
    torch.testing.assert_close(latents_of(vidgen, model, PROMPT, *words), want)


def test_reference_images(vidgen, model: Path, files: np.ndarray) -> None:
    pipe = load_pipeline(str(model))
    torch.manual_seed(0)
    shape = IPAdapterConfig(latent_channels=4, text_width=16, tokens=2, width=16, depth=1, head_dim=16)
    pipe.image_prompt = IPAdapterEncoder(shape).eval().requires_grad_(False)
    pipe.save_pretrained("sighted")
    words = ("--reference", "a.png", "--reference", "v.mkv")  # of a video the first frame
    want = pipe(PROMPT, reference=[files[0], files[0]], output_type="latent").latents
    torch.testing.assert_close(latents_of(vidgen, Path("sighted"), PROMPT, *words), want)
    long = ("--reference", "b.png", "--image", "a.png", "--num-frames", 9)
    pieces = rollout(pipe, PROMPT, 9, reference=files[4], image=files[0])
    want = torch.cat([piece.latents for piece in pieces], dim=2)
    torch.testing.assert_close(latents_of(vidgen, Path("sighted"), PROMPT, *long), want)
    line = vidgen("sample", PROMPT, "-o", "y.mp4", "--model", model, *words).error
    assert "this model has no image_prompt to read reference images with" in line and not Path("y.mp4").exists()


def test_pictures_are_brought_to_the_clips_size(vidgen, model: Path, files: np.ndarray) -> None:
    write_video(files[:1].repeat(2, axis=1).repeat(2, axis=2), "large.png", fps=8)
    ran = vidgen("sample", PROMPT, "-o", "x.mp4", "--model", model, "--image", "large.png", "--fit", "stretch")
    assert ran.status == 0 and read_video("x.mp4").frames.shape == (5, 16, 16, 3)


def test_a_video_that_is_changed_keeps_its_length(vidgen, model: Path, files: np.ndarray) -> None:
    write_video(files[:3], "short.mkv", fps=8)
    ran = vidgen("sample", PROMPT, "-o", "x.mp4", "--model", model, "--video", "short.mkv", "--strength", 0.5, "--json")
    assert json.loads(ran.out)["clips"][0]["num_frames"] == 3 and len(read_video("x.mp4").frames) == 3


def test_a_long_clip_is_a_rollout(vidgen, model: Path, files: np.ndarray) -> None:
    words = ("--num-frames", 15, "--window", 9, "--overlap", 2, "--image", "a.png", "--keep-latents", "--json")
    ran = vidgen("sample", PROMPT, "-o", "x.mp4", "--model", model, *words)
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)["clips"][0]
    assert report["num_frames"] == 15 and len(read_video("x.mp4").frames) == 15
    assert [row["num_frames"] for row in report["drift"]["segments"]] == [9, 4, 2]
    pipe, windows = load_pipeline(str(model)), WindowConfig(num_frames=9, overlap=2)
    want = torch.cat([p.latents for p in rollout(pipe, PROMPT, 15, windows=windows, image=files[0])], dim=2)
    kept = read_tokens(Path("x.latents.safetensors"))
    torch.testing.assert_close(kept.latents, want)
    assert kept.num_frames == 15 and kept.extra["prompt"] == PROMPT


def test_a_long_video_is_changed_window_by_window(vidgen, model: Path, files: np.ndarray, waves) -> None:
    frames = waves(9, 8, 8)
    write_video(frames, "low.mkv", fps=8)
    words = ("--video", "low.mkv", "--strength", 0.5, "--num-frames", 9)
    pieces = rollout(load_pipeline(str(model)), PROMPT, 9, draft=Draft(frames=frames, strength=0.5))
    want = torch.cat([p.latents for p in pieces], dim=2)
    torch.testing.assert_close(latents_of(vidgen, model, PROMPT, *words), want)
    line = vidgen("sample", PROMPT, "-o", "y.mp4", "--model", model, *words[:-1], 13).error
    assert "the draft has 9 frames, and the clip 13" in line and not Path("y.mp4").exists()


def test_a_story(vidgen, model: Path, files: np.ndarray) -> None:
    Path("tale.txt").write_text("# times in seconds\n0 a star\n5f a red circle\n1 a blue square\n", encoding="utf-8")
    ran = vidgen("sample", "--story", "tale.txt", "-o", "x.safetensors", "--model", model)
    assert ran.status == 0, ran.err
    tokens = read_tokens(Path("x.safetensors"))  # the last prompt holds from frame 8 for a window of 5
    assert tokens.num_frames == 13 and tokens.extra["prompt"] == "0f a star; 5f a red circle; 8f a blue square"
    pieces = rollout(load_pipeline(str(model)), [(0, "a star"), (5, "a red circle"), (8, "a blue square")], 13)
    torch.testing.assert_close(tokens.latents, torch.cat([p.latents for p in pieces], dim=2))
    ran = vidgen("sample", "--story", "tale.txt", "-o", "y.mp4", "--model", model, "--num-frames", 9)
    assert ran.status == 0 and "not shown: a blue square" in ran.err


def breaking(at: int):
    """An Euler step that finds NaN at call number `at`."""
    from vidgen.samplers.solvers.euler import transfer

    calls = 0

    def step(x, *rest):
        nonlocal calls
        calls += 1
        if calls == at:
            raise SamplingError("the denoiser gave NaN or infinity at step 2 of 2", x)
        return transfer(x, *rest)

    return step


def test_nan_keeps_the_latents_before_it(vidgen, model: Path, files: np.ndarray, monkeypatch) -> None:
    monkeypatch.setattr("vidgen.samplers.solvers.euler.transfer", breaking(2))
    line = vidgen("sample", PROMPT, "-o", "x.mp4", "--model", model).error
    assert "NaN or infinity at step 2 of 2; the noisy latents before that step are in x.stopped.safetensors" in line
    assert read_tokens(Path("x.stopped.safetensors")).latents.shape[2] == 2 and not Path("x.mp4").exists()


def test_nan_of_the_network_itself_keeps_the_latents_of_the_step_before(
    vidgen, model: Path, files, monkeypatch
) -> None:
    seen, whole = [], VideoDiT.forward

    def breaking(self, x, *rest, **conditions):
        seen.append(x[:1].clone())
        return whole(self, x, *rest, **conditions) * (torch.nan if len(seen) == 3 else 1.0)

    monkeypatch.setattr(VideoDiT, "forward", breaking)
    words = ("--num-inference-steps", 5, "--guidance-passes", "batched")
    line = vidgen("sample", PROMPT, "-o", "x.mp4", "--model", model, *words).error
    assert "the denoiser gave NaN or infinity at step 3 of 5 (noise level 0.6)" in line
    assert torch.equal(read_tokens(Path("x.stopped.safetensors")).latents, seen[2])
    assert sorted(p.name for p in Path().glob("x*")) == ["x.stopped.safetensors"]


def test_a_rollout_that_breaks_off_keeps_what_it_has(vidgen, model: Path, files: np.ndarray, monkeypatch) -> None:
    monkeypatch.setattr("vidgen.samplers.solvers.euler.transfer", breaking(6))  # in the third window
    line = vidgen("sample", PROMPT, "-o", "x.mp4", "--model", model, "--num-frames", 17).error
    assert "x.stopped.safetensors; the latents are safe; go on with: vidgen tokenizer decode" in line
    assert not Path("x.mp4").exists() and read_tokens(Path("x.latents.safetensors")).num_frames == 9
    assert vidgen(*shlex.split(line.partition("go on with: vidgen ")[2])).status == 0
    assert len(read_video("x.mp4").frames) == 9


BAD = {
    "no image": (("--image", "gone.png"), "gone.png: no such file or folder"),
    "not an image": (("--image", "file.txt"), "file.txt"),
    "no reference": (("--reference", "gone.png"), "gone.png: no such file or folder"),
    "not a reference": (("--reference", "file.txt"), "file.txt"),
    "strength": (("--video", "v.mkv", "--strength", 1.5), "a number from 0 to 1 is wanted"),
    "strength alone": (("--strength", 0.5), "--strength says what becomes of a video; name it with --video"),
    "mask alone": (("--mask", "m.png"), "--mask says what becomes of a video; name it with --video"),
    "long": (("--video", "v.mkv", "--mask", "m.png", "--num-frames", 9), "in one go, and 9 frames are longer"),
    "ends": (("--last-image", "b.png", "--num-frames", 9), "--last-image needs the clip in one go"),
    "story": (("--story", "file.txt"), "--story has the prompts"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(vidgen, model: Path, files: np.ndarray, case: str) -> None:
    words, line = BAD[case]
    before = set(Path().iterdir())
    assert line in vidgen("sample", PROMPT, "-o", "x.mp4", "--model", model, *words).error
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0 a star\nlater a circle", "tale.txt: line 2: time 'later' is not a time"),
        ("0", "tale.txt: line 1 is '0'; a time and a prompt are wanted"),
        ("", "tale.txt: no prompts in it"),
    ],
)
def test_a_story_that_is_none(vidgen, model: Path, files: np.ndarray, text: str, line: str) -> None:
    Path("tale.txt").write_text(text, encoding="utf-8")
    assert line in vidgen("sample", "--story", "tale.txt", "-o", "x.mp4", "--model", model).error
    assert not Path("x.mp4").exists()
