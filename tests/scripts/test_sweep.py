"""`vidgen sweep`, and probes of the synthetic world's own labels, from clips to tables and a picture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen.representations.bank import FeatureBank
from vidgen.scripts.plots.sweep import grid_of


@pytest.mark.slow
def test_synthetic_labels_become_tasks_and_a_sweep_becomes_a_picture(vidgen, model: Path, tmp_path: Path) -> None:
    shapes, out = tmp_path / "shapes", tmp_path / "sweep ü"
    assert vidgen("data", "synthesize", "-o", shapes, "--count", 16, "--size", 16, "--num-frames", 5).status == 0
    words = ("sweep", model, shapes / "labels.jsonl", "-o", out, "--pools", "mean,temporal", "--noise-levels", "0,0.3")
    words = (*words, "--layers", "tokenizer.latents,dit.blocks.1", "--flat", 0)
    ran = vidgen(*words, "--kind", "ridge", "--task", "position", "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert report == json.loads((out / "sweep.json").read_text(encoding="utf-8"))
    layers, columns, scores = grid_of(report["sweep"])
    assert layers == ["tokenizer.latents", "dit.blocks.1"]
    assert columns == [(pool, level) for pool in ("mean", "temporal") for level in (None, 0.0, 0.3)]
    assert np.isnan(scores).tolist() == [[False, True, True] * 2, [True, False, False] * 2]
    assert {row["metric"] for row in report["sweep"]} == {"r2"} and report["sweep"][-1]["task"] == "position"
    with Image.open(out / "sweep.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 100
    bank = out / "banks" / "mean"
    assert {"colour", "count", "speed", "velocity", "motions"} <= set(FeatureBank.load(bank).columns)
    assert "labels" not in FeatureBank.load(bank).columns
    table = vidgen("probe", bank, "--task", "background", "--kind", "centroid", "--best").out
    assert "accuracy of background" in table and "temporal gain" in table and "shuffled.dit.blocks.1" in table
    for bad, line in (
        (("--task", "label"), "has no labels 'label'; it has count, colours"),
        (("--task", "wall"), "has no label"),
        (("--task", "count"), "only one class in 'train'"),
        (("--task", "background", "--kind", "attentive"), "left no tokens; extract with --pool none"),
    ):
        assert line in vidgen("probe", bank, *bad).error
