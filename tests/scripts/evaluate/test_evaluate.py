"""`vidgen evaluate`: the numbers and their keys, on held-out prompts or on a file of them."""

import json
from pathlib import Path

import pytest

from vidgen.data.shapes.scenes import VIOLATIONS
from vidgen.pipelines.evaluation.conditions import CONDITIONS


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
        (("--noise-levels", "0,0.5"), "levels.0=0.0 is not a number above 0 and below 1"),
    ):
        assert line in vidgen(*words, *bad).error


@pytest.mark.parametrize("text", ["", "no json", '{"caption": "x"}', '{"caption": "x", "labels": 3}'])
def test_a_bad_file_of_prompts_is_one_line(vidgen, model: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(text)
    assert str(path) in vidgen("evaluate", "generation", "--model", model, "--prompts", path).error


def test_conditions_have_a_row_each(vidgen, model: Path, tmp_path: Path) -> None:
    words = ("evaluate", "conditions", "--model", model, "--n", 1, "--only", "image,video_to_video")
    report = json.loads(vidgen(*words, "--json").out)
    assert [row["condition"] for row in report["rows"]] == ["image", "video_to_video"] and report["strength"] == 0.7
    table = vidgen(*words, "--sheet", tmp_path / "sheet.png").out
    assert "conditions of" in table and "as coded dB" in table and (tmp_path / "sheet.png").stat().st_size > 5_000
    assert "no picture format" in vidgen(*words, "--sheet", "x.txt").error


def test_conditions_of_a_model_with_tasks_have_a_row_for_each_way(vidgen, trained_model: Path) -> None:
    words = ("evaluate", "conditions", "--model", trained_model, "--n", 1)
    ran = vidgen(*words, "--json")
    rows = [(row["condition"], row["by"]) for row in json.loads(ran.out)["rows"]]
    restored = [(name, by) for name in ("super_resolution", "colorization") for by in ("projection", "task", "both")]
    zero_shot = [("filling", "projection"), ("deblurring", "projection")]
    assert rows[:2] == [("text", None), ("video_to_video", None)] and len(rows) == 10
    assert set(rows[2:]) == {*zero_shot, *restored}
    assert "was not trained for the tasks of some conditions; left out: image, first_last, continuation" in ran.err
    table = vidgen(*words, "--only", "colorization").out
    assert "colorization by task" in table and "gain dB" in table
    assert "asks for the task image_to_video" in vidgen(*words, "--only", "image").error


def test_conditions_of_reference_images_need_a_model_that_reads_them(vidgen, model: Path, monkeypatch) -> None:
    line = vidgen("evaluate", "conditions", "--model", model, "--n", 1, "--only", "reference").error
    assert "this model has no image_prompt" in line
    few = {name: CONDITIONS[name] for name in ("text", "reference", "no_reference")}
    monkeypatch.setattr("vidgen.pipelines.evaluation.conditions.CONDITIONS", few)
    ran = vidgen("evaluate", "conditions", "--model", model, "--n", 1, "--json")
    assert [row["condition"] for row in json.loads(ran.out)["rows"]] == ["text"]
    assert "has no image_prompt to read reference images with; left out: reference, no_reference" in ran.err


@pytest.mark.parametrize(
    ("words", "line"),
    [(("--only", "magic"), "condition 'magic' is unknown"), (("--strength", 0), "strength is 0.0; it must lie in")],
)
def test_conditions_that_are_none(vidgen, model: Path, words: tuple, line: str) -> None:
    assert line in vidgen("evaluate", "conditions", "--model", model, *words).error


def test_steps_are_written_and_drawn(vidgen, model: Path, tmp_path: Path) -> None:
    words = (
        "--n",
        1,
        "--only",
        "euler,rk45",
        "--evaluations",
        "1,2",
        "--tolerances",
        0.5,
        "--plot",
        tmp_path / "x.svg",
    )
    ran = vidgen("evaluate", "steps", "--model", model, *words, "--json", tmp_path / "x.json")
    assert ran.status == 0, ran.err
    report = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert [(r["sampler"], r["evaluations"]) for r in report["rows"][:2]] == [("euler", 1), ("euler", 2)]
    assert report["cheapest"]["sampler"] in ("euler", "rk45") and "<svg" in (tmp_path / "x.svg").read_text("utf-8")
    assert "95%" in vidgen("evaluate", "steps", "--model", model, *words[:4], "--evaluations", 1).out
    assert "no picture format" in vidgen("evaluate", "steps", "--model", model, "--plot", "x.txt").error


def test_distance_of_a_model_and_of_banks(vidgen, model: Path, tmp_path: Path) -> None:
    words = ("--model", model, "--features", model, "--layers", "tokenizer.latents,dit.blocks.0", "--n", 3)
    report = json.loads(vidgen("evaluate", "distance", *words, "--json").out)
    assert [row["key"] for row in report["rows"]] == ["tokenizer.latents", "dit.blocks.0@t=0.10"]
    assert report["rows"][0]["n_real"] == 6 and "num_inference_steps" in report
    words = ("--num-frames", 5, "--size", 16, "--count", 6)
    assert vidgen("data", "synthesize", "-o", tmp_path / "x", *words).status == 0
    for bank in ("one", "two"):
        assert vidgen("extract", model, tmp_path / "x", "-o", tmp_path / bank).status == 0
    banks = ("--real", tmp_path / "one", "--generated", tmp_path / "two")
    assert "real from real" in vidgen("evaluate", "distance", *banks).out
    assert "give both, or neither" in vidgen("evaluate", "distance", *banks[:2]).error
    words = ("--num-frames", 5, "--size", 16)
    assert vidgen("extract", model / "vae", tmp_path / "x", "-o", tmp_path / "other", *words).status == 0
    assert "of another model" in vidgen("evaluate", "distance", *banks[:2], "--generated", tmp_path / "other").error


@pytest.mark.slow
def test_rollouts_are_checked_and_drawn(vidgen, model: Path, tmp_path: Path) -> None:
    words = ("evaluate", "rollout", "--model", model, "--n", 2, "--seconds", 1.625, "--prompts", 2)
    report = json.loads(vidgen(*words, "--plot", tmp_path / "x.png", "--json").out)
    assert (
        report["num_frames"] == 13 and len(report["stories"]) == 2 and [s["scene"] for s in report["scenes"]] == [0, 1]
    )
    assert {"overlap", "context_noise", "drift", "windows", "peak_mb", "sampler"} <= set(report)
    assert (tmp_path / "x.png").stat().st_size > 10_000
    assert "the last window under each prompt" in vidgen(*words).out
    assert "4 frames are too few for 2 scenes" in vidgen(*words[:6], "--seconds", 0.5, "--prompts", 2).error
    assert "no picture format" in vidgen(*words, "--plot", "x.txt").error
