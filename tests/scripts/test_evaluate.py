"""`vidgen evaluate`: the numbers and their keys, on held-out prompts or on a file of them."""

import json
from pathlib import Path

import pytest

from vidgen.data.shapes.scenes import VIOLATIONS


def test_generation_reports_every_measure(vidgen, model: Path) -> None:
    report = json.loads(vidgen("evaluate", "generation", "--model", model, "--n", 3, "--json").out)
    assert report["n"] == 3 and len(report["clips"]) == 3 and report["num_inference_steps"] == 2
    for name in ("colour", "shape", "motion", "all"):
        low, high = report["ci"][name]
        assert 0 <= low <= report[name] <= high <= 1
    assert {"model", "seconds_per_clip", "peak_mb", "seed", "guidance_scale"} <= set(report)


def test_prompts_from_a_file(vidgen, model: Path, tmp_path: Path) -> None:
    words = ("--num-frames", 5, "--size", 16, "--count", 2)
    assert vidgen("data", "synthesize", "-o", tmp_path / "x", *words).status == 0
    words = ("--model", model, "--prompts", tmp_path / "x" / "labels.jsonl")
    assert json.loads(vidgen("evaluate", "generation", *words, "--json").out)["n"] == 2
    table = vidgen("evaluate", "generation", *words).out
    assert "2 clips" in table and "95% interval" in table and "s a clip" in table


def test_the_ceiling(vidgen, model: Path) -> None:
    report = json.loads(vidgen("evaluate", "ceiling", "--model", model / "vae", "--n", 2, "--json").out)
    assert report["n"] == 2 and {"colour", "shape", "motion", "all", "ci"} <= set(report)


def test_surprise_reports_every_violation_beside_its_baselines(vidgen, model: Path) -> None:
    words = ("evaluate", "surprise", "--model", model, "--n", 1, "--draws", 1, "--noise-levels", "0.2,0.6")
    report = json.loads(vidgen(*words, "--num-frames", 9, "--json").out)
    assert {"model", "n", "draws", "in_view", "seed", "rows", "peak_mb"} <= set(report)
    rows = {(row["scorer"], row["noise_level"], row["violation"]): row for row in report["rows"]}
    assert len(rows) == len(report["rows"]) == (2 * 2 + 1) * (len(VIOLATIONS) + 1)
    assert rows["denoiser", 0.6, "all"]["quartets"] == len(VIOLATIONS) - 1
    assert rows["denoiser", 0.2, "nothing"]["accuracy"] == 0.5 and rows["random.denoiser", 0.2, "all"]["baseline"]
    few = vidgen(*words, "--num-frames", 9, "--violations", "teleports", "--in-view", "--no-baselines").out
    assert "teleports" in few and "vanishes" not in few and "random" not in few and "0.5 is chance" in few
    for bad, line in (
        ((), "a violation needs 9 frames, got 5"),
        (("--violations", "melts"), "violation 'melts' is unknown; choose some of vanishes"),
        (("--noise-levels", "0,0.5"), "have no loss to compare"),
    ):
        assert line in vidgen(*words, *bad).error


@pytest.mark.parametrize("text", ["", "no json", '{"caption": "x"}', '{"caption": "x", "labels": 3}'])
def test_a_bad_file_of_prompts_is_one_line(vidgen, model: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(text)
    assert str(path) in vidgen("evaluate", "generation", "--model", model, "--prompts", path).error
