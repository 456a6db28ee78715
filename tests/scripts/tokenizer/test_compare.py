"""`vidgen tokenizer compare`: one command to the table, and again it only says what is there."""

import json
from pathlib import Path

import pytest

from vidgen.data.writing import write_video

FILE = """
task: tokenizer
preset: tiny
steps: 9
batch_size: 1
data:
  num_frames: 3
  size: [16, 16]
  validation_clips: 1
  sources: [{kind: clips, path: nowhere, short_side: 16, hold_out: 2}]
evaluation: {num_frames: 3, size: [16, 16], steps: [1.0], step: 1.0}
variants:
  ae: {model: {bottleneck: ae}}
  lfq: {model: {bottleneck: lfq}}
"""


@pytest.fixture
def words(tmp_path: Path, waves) -> tuple:
    """The command line of a comparison of two, of one step each."""
    clips = tmp_path / "clips ü"
    clips.mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_video(waves(4, 24, 32), clips / name, fps=8)
    file = tmp_path / "compare tiny.yaml"
    file.write_text(FILE, encoding="utf-8")
    return ("tokenizer", "compare", file, "steps=1", "--out", tmp_path / "out", "--clips", clips)


@pytest.mark.slow
def test_compare(vidgen, words: tuple, tmp_path: Path) -> None:
    first = vidgen(*words, "--only", "lfq", "--json")
    report = json.loads(first.out)
    assert first.status == 0 and [row["name"] for row in report["variants"]] == ["lfq"], first
    assert report["budget"]["steps"] == 1 and report["variants"][0]["usage"]["codebook_size"] == 16
    both = vidgen(*words, "--json", tmp_path / "report.json")
    assert both.status == 0 and both.out == "" and "lfq (2 of 2): there already" in both.err
    rows = json.loads((tmp_path / "report.json").read_text("utf-8"))["variants"]
    assert [row["name"] for row in rows] == ["ae", "lfq"] and rows[1] == report["variants"][0]
    shown = vidgen(*words)
    assert "lfq_causal_4x8x8_16" in shown.out and "table.md" in shown.out and "Each variant: 1 steps" in shown.out
    assert (tmp_path / "out" / "lfq" / "final" / "config.json").is_file()
    assert "has another steps" in vidgen(*words, "steps=2").error


def test_errors_are_one_line(vidgen, words: tuple, tmp_path: Path) -> None:
    assert "variant 'vq' is not in" in vidgen(*words, "--only", "ae,vq").error
    assert "nowhere: no such file or folder" in vidgen(*words[:6]).error
    assert "colour" in vidgen(*words, "colour=red").error
    assert (
        "comparison 'tokenizer_none' is neither" in vidgen("tokenizer", "compare", "tokenizer_none", *words[4:]).error
    )
    assert "needs `variants`" in vidgen("tokenizer", "compare", "tokenizer_natural", *words[4:]).error
    assert "--out" in vidgen(*words[:4]).error
    assert not (tmp_path / "out").exists()
