"""`vidgen extract` and `vidgen probe`: from labelled clips to a table of accuracies."""

import csv
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from vidgen.data.writing import write_video
from vidgen.representations.probes import PROBES
from vidgen.representations.probes.task import TARGET_TYPES
from vidgen.scripts.cli.probe_protocols import Kind, TargetType
from vidgen.scripts.probe import describe_choice


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A manifest of bright and dark clips, eight to learn from and four to report on; one file is missing."""
    rng, rows = np.random.default_rng(0), []
    for index in range(12):
        label, level = (("dark", 40), ("bright", 200))[index % 2]
        frames = (level + rng.integers(0, 30, (5, 16, 16, 3))).astype(np.uint8)
        write_video(frames, tmp_path / f"{index}.mkv", fps=8)
        rows.append((f"{index}.mkv", label, "train" if index < 8 else "test"))
    rows.append(("gone.mkv", "dark", "train"))
    with (tmp_path / "clips ü.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return tmp_path / "clips ü.csv"


@pytest.mark.slow
def test_extract_and_probe(vidgen, model: Path, labelled: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    words = ("extract", model, labelled, "-o", bank, "--noise_levels", "0,0.1", "--baselines")
    ran = vidgen(*words, "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert report["rows"] == report["added"] == 12
    assert [Path(drop["path"]).name for drop in report["dropped"]] == ["gone.mkv"]
    assert {"tokenizer.latents", "dit.blocks.0@t=0.00", "dit.blocks.1@t=0.10"} <= set(report["keys"])
    assert json.loads(vidgen(*words, "--json").out)["added"] == 0
    rows = json.loads(vidgen("probe", bank, "--json").out)["rows"]
    wanted = {"layer", "noise_level", "pool", "kind", "task", "metric", "validation", "test", "ci", "baseline"}
    assert all(wanted <= set(row) for row in rows)
    (pixels,) = [row for row in rows if row["layer"] == "pixels"] or [rows[0]]
    assert pixels["test"] == 1.0
    table = vidgen("probe", bank, "--best").out
    assert "tokenizer.latents" in table and "majority" in table and "8 clips to learn from, 4 to report on" in table
    held = json.loads(vidgen("probe", bank, "--against", "raw_pixels", "--json").out)["rows"]
    assert {row.get("against") for row in held} == {"raw_pixels", None}  # the majority looks at nothing
    assert "difference" in vidgen("probe", bank, "--against", "dit").out
    assert "leave --shots out" in vidgen("probe", bank, "--against", "dit", "--shots", "1").error
    found = json.loads(vidgen("retrieve", bank, "--json", "--k", "1,8").out)["rows"]
    scores = {row["layer"]: row for row in found}
    assert scores["raw_pixels"]["test"] == 1.0 and scores["chance"]["recall"] == {"1": 0.5, "8": 1.0}
    near = json.loads(vidgen("retrieve", bank, "--layers", "raw_pixels", "--query", "3.mkv", "--k", 3, "--json").out)
    assert [row["label"] for row in near["neighbours"]] == ["bright"] * 3 and "3.mkv" not in str(near["neighbours"])
    assert "4 queries in 8 clips" in vidgen("retrieve", bank).out


def test_every_kind_of_probe_can_be_asked_for() -> None:
    assert get_args(Kind) == tuple(PROBES) and get_args(TargetType) == TARGET_TYPES


def test_a_tokenizer_alone_has_features_too(vidgen, model: Path, labelled: Path, tmp_path: Path) -> None:
    ran = vidgen(
        "extract", model / "vae", labelled, "-o", tmp_path / "bank", "--num-frames", 5, "--size", "16", "--json"
    )
    assert json.loads(ran.out)["keys"] == ["tokenizer.latents"], ran


def save_external(folder: Path) -> Path:
    """A tiny DINOv2 with random weights, saved by transformers."""
    import transformers

    config = transformers.Dinov2Config(
        image_size=16, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    transformers.BitImageProcessor(**size).save_pretrained(folder)
    return folder


def test_a_model_of_transformers_is_extracted_by_its_folder(vidgen, labelled: Path, tmp_path: Path) -> None:
    bank, folder = tmp_path / "bank", save_external(tmp_path / "dino")
    ran = vidgen("extract", folder, labelled, "-o", bank, "--num-frames", 3, "--json")
    assert ran.status == 0 and ran.err.count("\n") <= 1, ran.err
    names = ("embeddings", "layers.0", "layers.1", "last")
    assert json.loads(ran.out)["keys"] == [f"encoder.{name}" for name in names]
    rows = {row["layer"]: row for row in json.loads(vidgen("probe", bank, "--json").out)["rows"]}
    assert rows["encoder.last"]["test"] == 1.0 and not rows["encoder.last"]["baseline"]
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"model_type": "llama"}))
    assert "holds a llama model; of its kind" in vidgen("extract", folder, labelled, "-o", bank).error
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pytorch_model.bin could run code" in vidgen("extract", folder, labelled, "-o", bank).error


BAD = {
    "no model": (("extract", "nothing-of-that-name", "DATA", "-o", "BANK"), "model 'nothing-of-that-name'"),
    "no data": (("extract", "MODEL", "nowhere", "-o", "BANK"), "nowhere: no such file or folder"),
    "layer": (
        ("extract", "MODEL", "DATA", "-o", "BANK", "--layers", "dit.blocks.9"),
        "layer 'dit.blocks.9' is not there",
    ),
    "pool": (("extract", "MODEL", "DATA", "-o", "BANK", "--pool", "whirl"), "pool 'whirl' is unknown"),
    "level": (("extract", "MODEL", "DATA", "-o", "BANK", "--noise-levels", "2"), "noise level 2.0 is outside [0, 1]"),
    "ensemble": (
        ("extract", "MODEL", "DATA", "-o", "BANK", "--noise", "predicted", "--ensemble", "2"),
        "--ensemble 2 is of random noise, and --noise predicted draws none",
    ),
    "no bank": (("probe", "BANK"), "BANK"),
    "no bank to search": (("retrieve", "BANK"), "BANK"),
    "no rank": (("retrieve", "BANK", "--k", "0"), "--k '0' is no list of whole numbers above 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(vidgen, model: Path, labelled: Path, tmp_path: Path, case: str) -> None:
    words, line = BAD[case]
    there = {"MODEL": str(model), "DATA": str(labelled), "BANK": str(tmp_path / "BANK")}
    assert line in vidgen(*[there.get(word, word) for word in words]).error
    assert not (tmp_path / "BANK").exists()


@pytest.mark.parametrize(
    ("choice", "cell"),
    [
        (None, ""),
        (5, "5"),
        ((0.02, 1.0), "0.02, 1"),
        ((10, 0.07, True), "10, 0.07, standardized"),
        ([1, 0.2, False], "1, 0.2, raw"),
    ],
)
def test_a_choice_is_a_cell_in_words(choice, cell) -> None:
    assert describe_choice(choice) == cell
