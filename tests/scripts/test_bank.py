"""`vidgen bank`, and extraction in parts, over long video and tars, on the command line."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from vidgen.data.writing import write_video
from vidgen.representations.bank import FeatureBank


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A tar of three clips of 13 frames."""
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "clips.tar", "w") as tar:
        for i in range(3):
            frames = rng.integers(0, 256, (13, 16, 16, 3), np.uint8)
            tar.add(write_video(frames, tmp_path / f"{i}.mkv", fps=8), f"{i}.mkv")
    return tmp_path / "clips.tar"


def test_parts_are_joined_shown_and_exported(vidgen, model: Path, clips: Path, tmp_path: Path) -> None:
    common = ("--windows", "sliding", "--stride", 4, "--noise", "inverted", "--pool", "frame", "--noise-levels", "0.2")
    parts = []
    for i in (1, 2):
        parts.append(tmp_path / f"part {i}")
        ran = vidgen("extract", model, clips, "-o", parts[-1], *common, "--part", f"{i}/2", "--json")
        assert ran.status == 0 and json.loads(ran.out)["rows"] == (6, 3)[i - 1], ran
    joined = tmp_path / "joined"
    assert "9 clips x 3 features" in vidgen("bank", "join", *parts, "-o", joined).out
    report = json.loads(vidgen("bank", "show", joined, "--json").out)
    assert report["rows"] == 9 and report["meta"]["noise"] == "inverted, heun 20"
    assert report["features"]["dit.blocks.0@t=0.20"] == [5, 32]
    shown = vidgen("bank", "show", joined).out
    assert "9 clips in 1 shard\n" in shown and "5x32" in shown and "pool: frame" in shown
    out = tmp_path / "arrays"
    assert vidgen("bank", "export", joined, "-o", out, "--format", "numpy").status == 0
    array = np.load(out / "tokenizer.latents.npy")
    np.testing.assert_array_equal(array, FeatureBank.load(joined).tokens("tokenizer.latents"))
    both = vidgen("bank", "join", f"a={joined}", f"b={joined}", "-o", tmp_path / "both", "--json")
    assert len(json.loads(both.out)["features"]) == 6


def test_bad_words_are_one_line(vidgen, model: Path, clips: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    assert vidgen("extract", model, clips, "-o", bank, "--layers", "tokenizer.latents", "--limit", 2).status == 0
    new = tmp_path / "new"
    for words, line in (
        (("bank", "show", tmp_path / "nowhere"), "nowhere is not a feature bank"),
        (("bank", "join", bank, "-o", new), "two banks or more"),
        (("bank", "join", bank, bank, "-o", new), "two banks or more, each once"),
        (("bank", "join", f"a={bank}", bank, "-o", new), "give a name to every bank"),
        (("bank", "join", f"a/b={bank}", bank, "-o", new), "a bank's name is a word"),
        (("bank", "join", bank, f"{bank}/", "-o", new), "is in"),
        (("bank", "export", bank, "-o", bank, "--format", "numpy"), "and would be lost"),
        (("extract", model, clips, "-o", new, "--part", "3"), "--part '3' is not I/N"),
        (("extract", model, clips, "-o", new, "--stride", 4), "a stride of 4 is for sliding windows"),
        (("extract", model, clips, "-o", new, "--noise", "pink"), "noise 'pink' is unknown"),
        (
            ("extract", model, clips, "-o", new, "--layers", "tokenizer.posterior.logvar", "--pool", "attentive"),
            "learned",
        ),
    ):
        assert line in vidgen(*words).error, words
    assert not new.exists()
