"""`vidgen tokenizer keyframes`: the JSON, the tables, and errors of one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.pipelines.loading import READ_ELSEWHERE
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
from vidgen.tokenizers.keyframes.config import KeyframeConfig
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

F32 = ("--dtype", "float32")


@pytest.fixture
def keyframe_model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = KeyframeConfig(key=PRESETS["tiny"], gop=4, motion_channels=2, levels=(5, 5), width=8)
    KeyframeTokenizer(config).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_the_report_has_three_ways_and_two_parts(vidgen, keyframe_model, clip) -> None:
    words = ("tokenizer", "keyframes", clip, "--model", keyframe_model)
    report = json.loads(vidgen(*words, "--json").out)
    assert list(report["ways"]) == ["repeated", "vectors", "learned"] and report["clips"][0]["frames"] == 9
    assert report["bits_per_pixel"]["key"]["coded"] > 0 and report["bits_per_pixel"]["motion"]["raw"] > 0
    ran = vidgen(*words, "--motion", "file")
    assert ran.status == 0 and "learned" in ran.out and "bits a pixel" in ran.out and "learned less vectors" in ran.err


def test_mistakes_are_one_line(vidgen, keyframe_model, model, clip) -> None:
    words = ("tokenizer", "keyframes", clip, "--model", keyframe_model)
    assert "--motion 'guess'" in vidgen(*words, "--motion", "guess").error
    assert "--step 0" in vidgen(*words, "--step", 0).error
    assert "leave size and frame rate" in vidgen(*words, "--motion", "file", "--size", 16).error
    other = vidgen("tokenizer", "keyframes", clip, "--model", model / "vae").error
    assert "holds a VideoTokenizer, not a KeyframeTokenizer" in other


def test_every_verb_takes_it_or_says_which_do(vidgen, keyframe_model, clip, model, tmp_path) -> None:
    names = ("--model", keyframe_model, *F32)
    report = json.loads(vidgen("tokenizer", "encode", clip, "-o", tmp_path / "x.safetensors", *names, "--json").out)
    assert report["num_frames"] == 9 and report["motion_indices"] == [6, 2, 2] and len(report["key_latents"]) == 4
    whole = vidgen("tokenizer", "decode", tmp_path / "x.safetensors", "-o", tmp_path / "x.mkv", *names)
    assert whole.status == 0, whole.err
    part = (tmp_path / "x.safetensors", "-o", tmp_path / "part.mkv", "--start", "5f", "--end", "8f")
    assert vidgen("tokenizer", "decode", *part, *names).status == 0
    frames = read_video(tmp_path / "x.mkv").frames
    assert len(frames) == 9 and np.array_equal(read_video(tmp_path / "part.mkv").frames, frames[5:8])
    back = json.loads(vidgen("tokenizer", "reconstruct", clip, "-o", tmp_path / "y.mkv", *names, "--json").out)
    assert back["clips"][0]["frames"] == 9 and np.array_equal(read_video(tmp_path / "y.mkv").frames, frames)
    assert "--max-memory" in vidgen("tokenizer", "reconstruct", clip, *names, "--max-memory", "4GB").error
    other = vidgen("tokenizer", "decode", tmp_path / "x.safetensors", "-o", tmp_path / "z.mkv", "--model", model)
    assert "holds key frames and motion; name the model that made it" in other.error
    plain = vidgen("tokenizer", "evaluate", clip, "--model", keyframe_model).error
    assert (
        "holds a KeyframeTokenizer" in plain and f"`vidgen tokenizer keyframes CLIPS --model {keyframe_model}`" in plain
    )
    assert {KeyframeTokenizer.__name__, DiffusionTokenizer.__name__} == set(READ_ELSEWHERE)


def test_a_folder_of_clips_and_back(vidgen, keyframe_model, clip, tmp_path) -> None:
    (tmp_path / "clips").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip, tmp_path / "clips" / name)
    words = ("tokenizer", "encode", tmp_path / "clips", "-o", tmp_path / "tokens", "--model", keyframe_model, *F32)
    assert json.loads(vidgen(*words, "--json").out)["encoded"] == 2
    assert json.loads(vidgen(*words, "--json").out)["kept"] == 2
    back = ("tokenizer", "decode", tmp_path / "tokens", "-o", tmp_path / "back", "--model", keyframe_model, *F32)
    assert vidgen(*back).status == 0 and len(read_video(tmp_path / "back" / "a.mp4").frames) == 9


@pytest.mark.slow
def test_trained_coded_extracted_and_probed(vidgen, tmp_path) -> None:
    torch.manual_seed(0)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "tiny")
    recipe = ["batch_size=2", "steps=3", "data.num_frames=6", "data.size=[16,16]", "data.validation_clips=2"]
    recipe += ["model={gop: 4, block: 8, motion_channels: 2, levels: [5, 5], width: 8}", "autocast=float32"]
    recipe += ["data.sources=[{kind: shapes}]", f"key={tmp_path / 'tiny'}", f"out={tmp_path / 'run'}"]
    assert vidgen("train", "keyframe_motion", *recipe).status == 0
    final, clips = tmp_path / "run" / "final", tmp_path / "clips"
    rng = np.random.default_rng(0)
    for number in range(24):
        folder = clips / ("still" if number % 2 else "moving")
        folder.mkdir(parents=True, exist_ok=True)
        frames = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
        write_video(frames[[0] * 6] if number % 2 else frames, folder / f"{number}.mkv", fps=8)
    names = ("--model", final, *F32)
    assert vidgen("tokenizer", "encode", clips, "-o", tmp_path / "tokens", *names).status == 0
    assert vidgen("tokenizer", "decode", tmp_path / "tokens", "-o", tmp_path / "back", *names).status == 0
    assert vidgen("tokenizer", "reconstruct", clips, *names).status == 0
    extract = ("extract", final, clips, "-o", tmp_path / "bank", "--num-frames", 6, "--size", 16, "--layers")
    ran = vidgen(*extract, "tokenizer.latents,tokenizer.motion,tokenizer.key.encoder.layers.0", "--baselines")
    assert ran.status == 0, ran.err
    probe = vidgen("probe", tmp_path / "bank", "--json")
    assert probe.status == 0, probe.err
    rows = {row["tap"]: row for row in json.loads(probe.out)["rows"] if not row["baseline"]}
    assert set(rows) == {f"tokenizer.{name}" for name in ("latents", "motion", "key.encoder.layers.0")}
