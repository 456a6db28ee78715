"""`vidgen retrieve --sheet`, `vidgen index` and `vidgen provenance` on clips that differ in brightness."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen.data.reading import read_video
from vidgen.data.writing import write_video


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A manifest of eight clips of 9 frames, "dark" and "bright" in turn."""
    rng, folder, rows = np.random.default_rng(0), tmp_path / "clips", []
    folder.mkdir()
    for index in range(8):
        label, level = (("dark", 40), ("bright", 200))[index % 2]
        frames = (level + 4 * index + rng.integers(0, 20, (9, 16, 16, 3))).astype(np.uint8)
        write_video(frames, folder / f"{index}.mkv", fps=8)
        rows.append((f"{index}.mkv", label))
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return folder


@pytest.mark.slow
def test_sheet_and_index(vidgen, model: Path, clips: Path, tmp_path: Path) -> None:
    bank, index = tmp_path / "bank", tmp_path / "films.index"
    assert vidgen("extract", model, clips, "-o", bank, "--layers", "tokenizer.latents", "--limit", 6).status == 0
    sheet = tmp_path / "sheet.png"
    assert vidgen("retrieve", bank, "--sheet", sheet).status == 0
    picture = np.asarray(Image.open(sheet).convert("RGB"))
    green, red = (np.all(picture == colour, axis=-1).sum() for colour in ((50, 205, 50), (220, 20, 60)))
    assert green > 500 and red > 500  # five neighbours of six clips: two of the query's label, three of the other
    assert json.loads(vidgen("index", "add", index, bank, "--json").out)["rows"] == 6
    assert "6 clips (0 new)" in vidgen("index", "add", index, bank).out
    words = ("index", "search", index, clips / "7.mkv", "--model", model, "--k", 3)
    (row,) = json.loads(vidgen(*words, "--json").out)["rows"]
    assert row["query"] == "7.mkv" and [one["label"] for one in row["neighbours"]] == ["bright"] * 3
    assert row["neighbours"][0]["id"] == str(clips / "5.mkv")
    again = json.loads(vidgen("index", "search", index, clips / "5.mkv", "--model", model, "--json").out)["rows"][0]
    assert str(clips / "5.mkv") not in [one["id"] for one in again["neighbours"]]
    table = vidgen("index", "search", index, bank, "--k", 1, "--sheet", tmp_path / "near.png")
    assert "nearest of 6 clips by tokenizer.latents" in table.out and (tmp_path / "near.png").exists()


def test_provenance(vidgen, model: Path, clips: Path, tmp_path: Path) -> None:
    words = (
        "provenance",
        model,
        clips,
        "--layers",
        "tokenizer.latents",
        "--num-frames",
        5,
        "--edits",
        "unchanged,mirrored",
    )
    ran = vidgen(*words, "--write", tmp_path / "edited", "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    rows = {(row["layer"], row["edit"]): row for row in report["rows"]}
    assert report["clips"] == 8 and rows["tokenizer.latents", "unchanged"]["test"] == 1.0
    assert rows["chance", "mirrored"]["test"] == 1 / 8
    original, mirrored = (read_video(tmp_path / "edited" / name / "3.mkv.mkv") for name in ("original", "mirrored"))
    assert np.array_equal(original.frames, mirrored.frames[:, :, ::-1]) and original.fps == 8
    table = vidgen(*words).out
    assert "R@1 (median rank)" in table and "raw_pixels" in table and "8 clips" in table


@pytest.mark.parametrize(
    "words, line",
    [
        (("index", "add", "INDEX", "BANK"), "BANK is not a feature bank"),
        (("index", "search", "INDEX", "CLIPS"), "INDEX is not a feature bank"),
        (("index", "search", "INDEX", "CLIPS", "--sheet", "nowhere/x.png"), "nowhere does not exist"),
        (("provenance", "MODEL", "nowhere"), "nowhere: no such file or folder"),
        (("provenance", "MODEL", "CLIPS", "--edits", "upside-down"), "edit 'upside-down' is unknown"),
        (("provenance", "MODEL", "CLIPS", "--write", "CLIPS"), "and would be lost"),
        (("provenance", "MODEL", "CLIPS", "--pool", "whirl"), "pool 'whirl' is unknown"),
    ],
)
def test_bad_input_is_one_line(vidgen, model: Path, clips: Path, tmp_path: Path, words: tuple, line: str) -> None:
    there = {"MODEL": model, "CLIPS": clips, "BANK": tmp_path / "BANK", "INDEX": tmp_path / "INDEX"}
    assert line in vidgen(*[there.get(word, word) for word in words]).error


def test_an_index_of_another_model_is_refused(vidgen, model: Path, clips: Path, tmp_path: Path) -> None:
    bank, index = tmp_path / "bank", tmp_path / "index"
    vidgen("extract", model / "vae", clips, "-o", bank, "--num-frames", 5, "--size", 16, "--limit", 3)
    vidgen("index", "add", index, bank)
    error = vidgen("index", "search", index, clips / "1.mkv", "--model", model).error
    assert "was not made with the model" in error and "--model and --dtype" in error
    found = vidgen("index", "search", index, clips / "1.mkv", "--model", model / "vae", "--json")
    assert len(json.loads(found.out)["rows"][0]["neighbours"]) == 2, found
