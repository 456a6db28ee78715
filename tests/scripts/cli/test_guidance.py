"""Guidance on the command line: the clip is the pipeline's own; one line for what is no guidance."""

import json
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import torch

from vidgen.pipelines.loading import load_pipeline
from vidgen.samplers.guidance import GUIDANCE, Guidance
from vidgen.scripts.cli.guidance import GuidanceOptions
from vidgen.tokenizers.files.token_files import read_tokens

PROMPT = "a red circle moves right"


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("guidance", set(GUIDANCE)),
        ("guidance_option", {name for method in GUIDANCE.values() for name in (*method.options, *method.choices)}),
    ],
)
def test_help_names_every_rule_and_setting(option: str, names: set[str]) -> None:
    hint = get_type_hints(GuidanceOptions, include_extras=True)[option]
    assert names <= set(re.findall(r"\w+", hint.__metadata__[0].help))


@pytest.mark.parametrize("case", ["apg", "autoguidance"])
def test_the_clip_is_the_pipelines_own(vidgen, model: Path, tmp_path: Path, case: str) -> None:
    pipe, out = load_pipeline(str(model)), tmp_path / "x.safetensors"
    words, guidance = {
        "apg": (
            ("--guidance-option", "norm_limit=0.5", "--guidance_interval", "0.2,1", "--guidance-rescale", 0.3),
            Guidance(name="apg", interval=(0.2, 1.0), rescale=0.3, options={"norm_limit": 0.5}),
        ),
        "autoguidance": (
            ("--guidance-option", f"weaker={model}"),
            Guidance(name="autoguidance", options={"weaker": pipe.transformer}),
        ),
    }[case]
    ran = vidgen("sample", PROMPT, "-o", out, "--model", model, "--guidance", case, *words)
    assert ran.status == 0, ran.err
    want = pipe(PROMPT, guidance=guidance, output_type="latent").latents
    torch.testing.assert_close(read_tokens(out).latents, want, atol=1e-5, rtol=1e-5)


def test_evaluation_says_how_it_was_guided(vidgen, model: Path) -> None:
    words = ("--guidance", "pag", "--guidance-option", "blocks=0,1", "--n", 1, "--json")
    report = json.loads(vidgen("evaluate", "generation", "--model", model, *words).out)
    assert report["guidance"]["name"] == "pag" and report["guidance"]["options"] == ["blocks=0,1"]


def test_distance_is_of_guided_clips(vidgen, model: Path, tmp_path: Path) -> None:
    pipe, loud = load_pipeline(str(model)), tmp_path / "loud"
    for parameter in pipe.transformer.parameters():  # a new network's attention is not heard
        torch.nn.init.normal_(parameter, std=0.2)
    pipe.save_pretrained(loud)
    words = ("evaluate", "distance", "--model", loud, "--features", model, "--n", 3, "--guidance-scale", 3, "--json")
    plain = json.loads(vidgen(*words).out)
    ran = vidgen(*words, "--guidance", "pag", "--guidance-option", "blocks=0,1")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert plain["guidance"]["name"] == "cfg" and report["guidance"]["options"] == ["blocks=0,1"]
    assert report["rows"][0]["distance"] != plain["rows"][0]["distance"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--guidance", "magic"), "guidance 'magic' is unknown; choose one of cfg, rescale"),
        (("--guidance-interval", "1"), "guidance_interval is (1.0,); two noise levels are wanted"),
        (("--guidance-interval", "a,b"), "--guidance-interval 'a,b' is not a list of numbers"),
        (("--guidance-option", "eta"), "--guidance-option 'eta' is no NAME=VALUE"),
        (("--guidance-option", "eta=1"), "guidance 'cfg' has no option 'eta'; it has none"),
        (("--guidance", "autoguidance"), "autoguidance leads away from a weaker network"),
        (("--guidance-passes", "few"), "guidance_passes 'few' is unknown"),
    ],
)
def test_bad_input_is_one_line(vidgen, model: Path, tmp_path: Path, words: tuple, line: str) -> None:
    assert line in vidgen("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", model, *words).error
    assert not list(tmp_path.iterdir())
