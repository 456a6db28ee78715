"""`vidgen tokenizer keyframes`: the JSON, the tables, and errors of one line."""

import json
from pathlib import Path

import pytest
import torch

from vidgen.pipelines.loading import READ_ELSEWHERE
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
from vidgen.tokenizers.keyframes.config import KeyframeConfig
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.presets import PRESETS


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


def test_verbs_that_do_not_read_it_name_the_one_that_does(vidgen, keyframe_model, clip, tmp_path) -> None:
    encode = ("tokenizer", "encode", clip, "-o", tmp_path / "x.safetensors", "--model", keyframe_model)
    for words in (encode, ("extract", keyframe_model, clip, "-o", tmp_path / "bank")):
        ran = vidgen(*words)
        error = ran.err.splitlines()[-1]
        assert ran.status == 2
        assert "holds a KeyframeTokenizer" in error
        assert f"`vidgen tokenizer keyframes CLIPS --model {keyframe_model}`" in error
    assert not (tmp_path / "x.safetensors").exists() and not (tmp_path / "bank").exists()
    assert {KeyframeTokenizer.__name__, DiffusionTokenizer.__name__} == set(READ_ELSEWHERE)
