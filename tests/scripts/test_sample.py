"""`vidgen sample`: files as asked, the same clip for the same seed, and nothing half-written when it fails."""

import importlib.util
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgen.data.manifests import find_clips
from vidgen.data.reading import read_video
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.video import VideoPipeline
from vidgen.tokenizers.files.token_files import read_tokens

PROMPT = "a red circle moves right"


def test_a_clip_of_the_size_asked_for(vidgen, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "ein Ordner ü" / "clip.mp4"
    out.parent.mkdir()
    ran = vidgen("sample", PROMPT, "-o", out, "--model", model, "--num_frames", 6, "--height", 24, "--fps", 4, "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert report["clips"][0] | {"prompt": PROMPT, "num_frames": 6, "height": 24, "width": 16} == report["clips"][0]
    clip = read_video(out)
    assert clip.frames.shape == (6, 24, 16, 3) and clip.fps == 4
    assert {p.name for p in out.parent.iterdir()} == {"clip.mp4"}


def test_the_summary_is_one_line(vidgen, model: Path, tmp_path: Path) -> None:
    ran = vidgen("sample", PROMPT, "-o", tmp_path / "clip.mp4", "--model", model)
    assert ran.out.count("\n") == 1 and "clip.mp4: 5 frames of 16x16" in ran.out and "MiB" in ran.out


def test_latents_equal_the_pipelines_own(vidgen, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    words = ("sample", PROMPT, "-o", out, "--model", model, "--seed", 5, "--sampler", "heun", "--guidance-scale", 2)
    assert vidgen(*words).status == 0
    pipe = load_pipeline(str(model))
    want = pipe(PROMPT, seed=5, sampler="heun", guidance_scale=2.0, output_type="latent").latents
    tokens = read_tokens(out, pipe.vae)
    torch.testing.assert_close(tokens.latents, want)
    assert (tokens.num_frames, tokens.height, tokens.width, tokens.fps) == (5, 16, 16, 8.0)
    assert tokens.extra["prompt"] == PROMPT and tokens.extra["seed"] == "5"


def test_several_clips_are_numbered_and_batches_change_nothing(vidgen, model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red circle\n\nein blauer Kreis\n", encoding="utf-8")
    common = ("--prompts-file", prompts, "--num-videos-per-prompt", 2, "--model", model, "--output-type", "latent")
    common += ("--sampler", "euler_ancestral")  # which draws noise on the way, one stream a clip
    for name, batch in (("one", 1), ("all", 4)):
        ran = vidgen("sample", *common, "-o", tmp_path / name, "--batch-size", batch)
        assert ran.status == 0, ran.err
    for index in range(4):
        one, both = (read_tokens(tmp_path / f"{name}-{index}.safetensors") for name in ("one", "all"))
        assert one.extra["prompt"] == ("a red circle", "ein blauer Kreis")[index // 2]
        torch.testing.assert_close(one.latents, both.latents)


@pytest.mark.parametrize(("name", "made"), [("x.gif", "x.gif"), ("x.webp", "x.webp"), ("frames", "frames/00004.png")])
def test_the_suffix_says_the_format(vidgen, model: Path, tmp_path: Path, name: str, made: str) -> None:
    kind = "png" if name == "frames" else name[2:]
    ran = vidgen("sample", PROMPT, "-o", tmp_path / name, "--model", model, "--output-type", kind, "--keep-latents")
    assert ran.status == 0, ran.err
    assert (tmp_path / made).is_file()
    assert {p.name for p in tmp_path.iterdir()} == {name, f"{name.split('.')[0]}.latents.safetensors"}


def test_a_name_of_our_own_choosing_never_overwrites(vidgen, model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert vidgen("sample", "A red / Circle!", "--model", model).status == 0
    assert {p.name for p in tmp_path.iterdir()} == {"a-red-circle.mp4", "a-red-circle_2.mp4"}


BAD = {
    "no prompt": ((), "give a prompt"),
    "empty prompt": ((" ",), "the prompt is empty; say what to show"),
    "unknown sampler": ((PROMPT, "--sampler", "magic"), "'magic' is unknown; choose one of euler, heun"),
    "height": ((PROMPT, "--height", 20), "height 20 is not a multiple of 8"),
    "long prompt": (("circle " * 20,), "too long, 60 at most"),
    "format": ((PROMPT, "-o", "x.xyz"), "no format is known for '.xyz'"),
    "contradiction": ((PROMPT, "-o", "x.gif", "--output-type", "mp4"), "x.gif is not of --output-type mp4"),
    "no folder": ((PROMPT, "-o", "nowhere/x.mp4"), "nowhere does not exist; create it first"),
    "under a file": ((PROMPT, "-o", "file/x.mp4"), "file/x.mp4"),
    "png": ((PROMPT, "-o", "x.png"), "one image cannot hold 5 frames"),
    "no prompts file": (("--prompts-file", "gone.txt"), "gone.txt: No such file"),
    "device": ((PROMPT, "--device", "abacus"), "device 'abacus' cannot be used here"),
    "rate": ((PROMPT, "--fps", 0), "--fps"),
    "steps": ((PROMPT, "--num-inference-steps", 0), "a number from 1 to 10000 is wanted"),
    "option": ((PROMPT, "--xyzzy", "red"), "No such option: --xyzzy; see `vidgen sample --help`"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(vidgen, model: Path, tmp_path: Path, monkeypatch, case: str) -> None:
    words, line = BAD[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert line in vidgen("sample", *words, "--model", model).error
    assert {p.name for p in tmp_path.iterdir()} == {"file"}


@pytest.mark.skipif(importlib.util.find_spec("xformers") is not None, reason="xformers is installed here")
def test_xformers_that_is_not_there_is_one_line(vidgen, model: Path, tmp_path: Path) -> None:
    line = vidgen("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", model, "--attention", "xformers").error
    assert "pip install 'vidgen[gpu]'" in line and not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae"])
def test_weights_of_another_shape_are_one_line(vidgen, model: Path, tmp_path: Path, part: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    path = broken / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    name = max(tensors, key=lambda n: tensors[n].ndim)
    save_file(tensors | {name: tensors[name][:1].clone()}, path)
    line = vidgen("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", broken).error
    assert str(path) in line and name in line and "shape" in line
    del tensors[name]
    save_file(tensors, path)
    assert "1 missing" in vidgen("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", broken).error
    assert {p.name for p in tmp_path.iterdir()} == {"broken"}


def test_an_unwritable_folder_is_found_before_the_work(vidgen, tmp_path: Path, monkeypatch) -> None:
    if os.name != "posix" or not Path("/proc/self").is_dir():
        pytest.skip("needs a folder that not even the administrator may write to: /proc")
    assert (
        "cannot be written to" in vidgen("sample", PROMPT, "-o", "/proc/x.mp4", "--model", "not-even-looked-at").error
    )


def test_a_failed_decode_keeps_the_latents_and_says_how_to_go_on(
    vidgen, model: Path, tmp_path: Path, monkeypatch
) -> None:
    whole = VideoPipeline.decode

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoPipeline, "decode", fail)
    out, kept = tmp_path / "my clip.mp4", tmp_path / "my clip.latents.safetensors"
    line = vidgen("sample", PROMPT, "-o", out, "--model", model).error
    assert "No space left" in line and {p.name for p in tmp_path.iterdir()} == {kept.name}
    monkeypatch.setattr(VideoPipeline, "decode", whole)

    command = line.partition("go on with: vidgen ")[2]
    assert vidgen(*shlex.split(command), "--dtype", "float32").status == 0
    direct = tmp_path / "direct.mp4"
    assert vidgen("sample", PROMPT, "-o", direct, "--model", model).status == 0
    np.testing.assert_array_equal(read_video(out).frames, read_video(direct).frames)


def test_ctrl_c_while_sampling(vidgen, model: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vidgen.samplers.solvers.euler.transfer", interrupt)
    ran = vidgen("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", model)
    assert (ran.status, ran.err, ran.out) == (130, "interrupted\n", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ctrl_c_to_a_running_process(model: Path, tmp_path: Path) -> None:
    started, out = tmp_path / "started", tmp_path / "out"
    out.mkdir()
    code = f"""
import pathlib, sys, vidgen.samplers.solvers.euler as solvers
from vidgen.scripts.main import main
whole = solvers.transfer
def transfer(*inputs):
    pathlib.Path({str(started)!r}).touch()
    return whole(*inputs)
solvers.transfer = transfer
main(sys.argv[1:])
"""
    words = ["sample", PROMPT, "-o", str(out / "x.mp4"), "--model", str(model), "--num-inference-steps", "10000"]
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    for _ in range(6000):  # a busy machine takes its time to import
        if started.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=600)
    assert (process.returncode, error.decode(), printed) == (130, "interrupted\n", b"")
    assert not list(out.iterdir())


def test_encoded_prompts_are_kept_where_asked(vidgen, model: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path / "cache"))
    words = ("sample", PROMPT, "-o", tmp_path / "x.safetensors", "--model", model)
    assert vidgen(*words).status == 0 and not (tmp_path / "cache").exists()
    want = read_tokens(tmp_path / "x.safetensors").latents
    for _ in range(2):
        assert vidgen(*words, "--text-cache", "on").status == 0
        torch.testing.assert_close(read_tokens(tmp_path / "x.safetensors").latents, want, atol=1e-5, rtol=1e-5)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2


def test_several_clips_go_into_a_folder_and_the_same_command_goes_on(vidgen, model: Path, tmp_path: Path) -> None:
    """What is there stays as it is; what is missing, or was made of another prompt, is made to the bit as before."""
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red circle\na star\na red circle\n", encoding="utf-8")
    out = tmp_path / "out"
    words = ("sample", "--prompts-file", prompts, "-o", out, "--model", model, "--batch-size", 3)
    assert vidgen(*words).status == 0
    names = ["a-red-circle.mp4", "a-star.mp4", "a-red-circle_2.mp4"]
    assert {p.name for p in out.iterdir()} == {*names, "clips.jsonl"}
    before = {name: ((out / name).read_bytes(), (out / name).stat().st_mtime_ns) for name in names}
    index = (out / "clips.jsonl").read_bytes()
    (out / names[1]).unlink()
    ran = vidgen(*words)
    assert ran.status == 0 and "2 of them there already" in ran.out
    assert {name: (out / name).read_bytes() for name in names} == {
        name: content for name, (content, _) in before.items()
    }
    assert [(out / name).stat().st_mtime_ns == before[name][1] for name in names] == [True, False, True]
    assert [record.id for record in find_clips(out / "clips.jsonl")] == names
    assert (out / "clips.jsonl").read_bytes() == index
    prompts.write_text("a red circle\na small star\na red circle\n", encoding="utf-8")
    assert "2 of them there already" in vidgen(*words).out and (out / "a-small-star.mp4").is_file()
    assert "there already" not in vidgen(*words, "--seed", 1).out
    (out / "a-new-one.mp4").write_text("mine")
    prompts.write_text("a new one\na star\n", encoding="utf-8")
    assert "from elsewhere" in vidgen(*words).error and (out / "a-new-one.mp4").read_text() == "mine"


def test_folders_of_frames_go_on(vidgen, model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text("a red circle\na star\n", encoding="utf-8")
    words = ("sample", "--prompts-file", prompts, "-o", tmp_path / "out", "--model", model, "--output-type", "png")
    assert vidgen(*words).status == 0
    shutil.rmtree(tmp_path / "out-1")
    assert "1 of them there already" in vidgen(*words).out
    assert len(list((tmp_path / "out-1").iterdir())) == 5


def test_a_prompt_that_is_too_long_is_named_by_its_line_before_the_first_clip(vidgen, model, tmp_path: Path) -> None:
    prompts = tmp_path / "p.txt"
    prompts.write_text(f"a red circle\n\n{'circle ' * 20}\n", encoding="utf-8")
    words = ("sample", "--prompts-file", prompts, "-o", tmp_path / "out", "--model", model, "--batch-size", 1)
    assert "p.txt: line 3: prompt of" in vidgen(*words).error
    assert not (tmp_path / "out").exists()
    assert "--negative-prompt: prompt of" in vidgen("sample", "a", "--negative-prompt", "x" * 70, *words[3:]).error
    assert "not text in UTF-8" in vidgen("sample", "a red \udcff circle", *words[3:]).error


def test_one_copy_alone_is_that_of_the_whole(vidgen, model: Path, tmp_path: Path) -> None:
    words = ("sample", PROMPT, "--model", model, "-o")
    assert vidgen(*words, tmp_path / "all.mkv", "--num-videos-per-prompt", 3, "--batch-size", 1).status == 0
    assert vidgen(*words, tmp_path / "one.mkv", "--copy", 2).status == 0
    np.testing.assert_array_equal(*(read_video(tmp_path / n).frames for n in ("all-2.mkv", "one.mkv")))
    assert "--copy makes one" in vidgen(*words, tmp_path / "x.mkv", "--copy", 2, "--num-videos-per-prompt", 2).error
