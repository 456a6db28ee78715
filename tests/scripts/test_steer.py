"""`vidgen steer` and `vidgen concepts` on clips that differ in brightness."""

import json
from pathlib import Path

import numpy as np
import pytest

from vidgen.data.reading import read_video
from vidgen.data.writing import write_video


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty clips of noise, "bright" and "dark", red or blue, with their level; the bank is made by the first test."""
    folder = tmp_path_factory.mktemp("steer")
    rng, lines = np.random.default_rng(0), []
    for i in range(40):
        frames = (60 + 120 * (i % 2) + rng.integers(0, 40, (5, 16, 16, 3))).astype(np.uint8)
        frames[..., 2 * (i // 2 % 2)] //= 2
        write_video(frames, folder / f"{i}.mkv", fps=8)
        colour = "blue" if i // 2 % 2 == 0 else "red"
        row = {"path": f"{i}.mkv", "label": ("dark", "bright")[i % 2], "colour": colour, "level": float(frames.mean())}
        lines.append(json.dumps(row | {"split": "train" if i < 24 else "test"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def extracted(vidgen, model: Path, bank: Path) -> Path:
    vidgen("extract", model, bank, "-o", bank / "bank", "--layers", "tokenizer.latents,dit.blocks.0")
    return bank / "bank"


@pytest.mark.parametrize("by", ["mean", "probe", "neighbors"])
def test_steer(vidgen, model: Path, extracted: Path, tmp_path: Path, by: str) -> None:
    out = tmp_path / "out.mkv"
    words = (
        "steer",
        extracted,
        extracted.parent / "0.mkv",
        "-o",
        out,
        "--task",
        "label",
        "--value",
        "bright",
        "--by",
        by,
    )
    ran = vidgen(*words, "--model", model, "--strengths", "-1,0,1.5", "--neighbors", 3, "--json")
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    np.testing.assert_allclose(np.diff(report["wanted"]), [1, 1.5], rtol=1e-3)
    assert len(report["seen"]) == 3 and (report["separation"] == 1.0 or by == "neighbors")
    assert read_video(out).frames.shape == (5, 16, 3 * 16 + 2 * 2, 3)
    assert "decoded pixels at" in vidgen(*words, "--model", model, "--strengths", "1").out


def test_steer_along_numbers(vidgen, model: Path, extracted: Path, tmp_path: Path) -> None:
    words = (
        "steer",
        extracted,
        extracted.parent / "1.mkv",
        "-o",
        tmp_path / "x.gif",
        "--task",
        "level",
        "--model",
        model,
    )
    assert json.loads(vidgen(*words, "--json").out)["direction"] == "level" and (tmp_path / "x.gif").exists()


def test_concepts(vidgen, extracted: Path) -> None:
    words = ("concepts", extracted, "--task", "label", "--value", "bright", "--concepts", "colour", "--sets", 5)
    rows = json.loads(vidgen(*words, "--layer", "tokenizer.latents", "--json").out)["rows"]
    assert [row["concept"] for row in rows][0] == "label=bright" and rows[0]["accuracy"] == 1.0
    assert {row["concept"] for row in rows} == {"label=bright", "colour=blue", "colour=red"} and rows[0]["share"] > 0.9
    table = vidgen(*words, "--layer", "dit.blocks.0").out
    assert "what label=bright grows with, in dit.blocks.0@t=0.10" in table and "class itself" in table


@pytest.mark.parametrize(
    "words, line",
    [
        (("steer", "BANK", "CLIP", "-o", "x.mp4"), "name their column with --task"),
        (("steer", "BANK", "CLIP", "-o", "x.mp4", "--task", "mood", "--value", "x"), "has no labels 'mood'"),
        (("steer", "BANK", "CLIP", "-o", "x.mp4", "--task", "label"), "'label' holds no single numbers; name one"),
        (("steer", "BANK", "CLIP", "-o", "x.mp4", "--task", "label", "--value", "x"), "'label' is never 'x'; it is"),
        (("steer", "BANK", "CLIP", "-o", "x.mp4", "--task", "level", "--strengths", "far"), "is not a list of numbers"),
        (("steer", "BANK", "CLIP", "-o", "x.abc", "--task", "level"), "no format is known for '.abc'"),
        (("steer", "nowhere", "CLIP", "-o", "x.mp4", "--task", "level"), "is not a feature bank"),
        (("concepts", "BANK", "--task", "label", "--value", "dim", "--concepts", "colour"), "'label' is never 'dim'"),
        (("concepts", "BANK", "--task", "label", "--value", "dark", "--concepts", "level"), "has no words 'level'"),
    ],
)
def test_bad_input_is_one_line(
    vidgen, model: Path, extracted: Path, words: tuple, line: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = {"BANK": extracted, "CLIP": extracted.parent / "0.mkv"}
    more = ("--model", model) if words[0] == "steer" else ()
    assert line in vidgen(*[there.get(word, word) for word in words], *more).error
    assert not list(tmp_path.glob("x.*"))


def test_another_model_is_refused(vidgen, model: Path, extracted: Path, tmp_path: Path) -> None:
    words = ("steer", extracted, extracted.parent / "0.mkv", "-o", tmp_path / "x.mp4", "--task", "level")
    assert "was not made with the model" in vidgen(*words, "--model", model / "vae").error
