"""`vidgen probe-dense`: a table a task, JSON, a picture; settings of which the best on validation is taken."""

import json
from pathlib import Path

import pytest
from PIL import Image

SMALL = ("--clips", 2, "--num-frames", 5, "--size", 32, "--layers", "tokenizer.latents,dit.blocks.1")


def test_rows_and_picture(vidgen, model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "dense.png"
    settings = ("--top-k", "1,3", "--temperature", "0.1", "--context", "2", "--radius", "any,1")
    ran = vidgen("probe-dense", model, *SMALL, *settings, "--tasks", "masks,points", "--picture", picture, "--json")
    assert ran.status == 0, ran.err
    rows = json.loads(ran.out)["rows"]
    wanted = {"layer", "noise_level", "pool", "kind", "task", "metric", "validation", "test", "ci", "baseline"}
    assert all(wanted <= set(row) for row in rows)
    assert {row["layer"] for row in rows} >= {
        "dit.blocks.1",
        "random.dit.blocks.1",
        "raw_pixels",
        "first_frame",
        "exact",
    }
    chosen = [row["choice"] for row in rows if row["choice"]]
    assert all(one["top_k"] in (1, 3) and one["context"] == 2 and one["radius"] in (None, 1) for one in chosen)
    assert Image.open(picture).width > 300
    table = vidgen("probe-dense", model, *SMALL, "--tasks", "boxes", "--top-k", 1, "--radius", "any").out
    assert "boxes by features of" in table and "middle_px" in table and "2 held-out clips" in table


def test_text_and_slots(vidgen, model: Path) -> None:
    words = ("--tasks", "expressions,slots", "--slots", 3, "--slot-steps", 2)
    ran = vidgen("probe-dense", model, *SMALL, *words)
    assert ran.status == 0, ran.err
    assert "expressions by features of" in ran.out and "wrong_iou" in ran.out and "told" in ran.out
    assert "slots by features of" in ran.out and "k-means" in ran.out and "fg_ari" in ran.out


@pytest.mark.parametrize(
    "words, line",
    [
        (("--tasks", "flow"), "dense task 'flow' is unknown"),
        (("--top-k", "0"), "nothing can be tracked so"),
        (("--radius", "far"), "--radius 'far' is not a list of numbers"),
        (("--top-k", ""), "need a value each"),
        (("--picture", "nowhere/x.png"), "nowhere does not exist"),
        (
            ("--tasks", "expressions", "--picture", "x.png"),
            "--picture shows what is tracked; add masks, points, boxes",
        ),
        (("--layers", "dit.blocks.7"), "layer 'dit.blocks.7' is not there"),
    ],
)
def test_bad_input_is_one_line(vidgen, model: Path, words: tuple, line: str) -> None:
    assert line in vidgen("probe-dense", model, *SMALL, *words).error


def test_expressions_need_a_denoiser(vidgen, model: Path) -> None:
    line = "the task 'expressions' needs a text-to-video denoiser, and VideoTokenizer has none"
    assert line in vidgen("probe-dense", model / "vae", "--tasks", "expressions").error
