"""`vidgen evaluate invariance` of a tiny pipeline, on clips of the world and of a folder."""

import json
from pathlib import Path

from vidgen.data.writing import write_video
from vidgen.representations.analysis.invariance import TRANSFORMATIONS


def test_a_row_for_each_layer_change_and_grade(vidgen, model: Path) -> None:
    words = ("evaluate", "invariance", model, "--n", 4, "--layers", "tokenizer.latents,dit.blocks.1")
    report = json.loads(vidgen(*words, "--json").out)
    grades = sum(len(change.grades) for change in TRANSFORMATIONS.values())
    assert report["n"] == 4 and len(report["rows"]) == 2 * grades
    for row in report["rows"]:
        low, high = row["cosine"]["interval"]
        assert -1 <= low <= row["cosine"]["mean"] <= high <= 1 and 0 <= row["nearest"]["mean"] <= 1
    table = vidgen(*words, "--only", "zoom").out
    assert "3 times" in table and "rotation" not in table and "nearest its own" in table
    assert "transformation 'shear' is unknown" in vidgen(*words, "--only", "shear").error
    assert "layer 'x' is not there" in vidgen(*words[:-1], "x").error


def test_own_clips(vidgen, model: Path, tmp_path: Path, waves) -> None:
    write_video(waves(8, 32, 32), tmp_path / "a.mp4", fps=8)
    words = ("evaluate", "invariance", model, "--clips", tmp_path, "--only", "occlusion")
    assert "1 clip; invariance is measured against other clips" in vidgen(*words).error
    write_video(255 - waves(8, 32, 32), tmp_path / "b.mp4", fps=8)
    assert json.loads(vidgen(*words, "--json").out)["n"] == 2
