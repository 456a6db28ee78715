"""`vidgen data import`: a manifest of what is there, and a line for what is not."""

import json
import re
from pathlib import Path

import pytest

from vidgen.data.annotations.registry import LAYOUTS
from vidgen.data.manifests import find_clips
from vidgen.scripts.data import import_layout

LINES = "AO8RW 0.0 6.9##a person sits.\nAO8RW 1.0##x\nAO8RW 8.0 6.9##reversed\nGONE1 0.0 1.0##x\n"


@pytest.fixture
def charades(tmp_path: Path, monkeypatch) -> Path:
    """A file of annotations, `videos` with one of its two videos, and an empty folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "charades_sta_test.txt").write_text(LINES)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "AO8RW.mp4").touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_a_manifest_and_a_summary(vidgen, charades: Path) -> None:
    words = ("data", "import", "charades_sta", "charades_sta_test.txt", "-o", "m.jsonl", "--videos", "videos")
    out = vidgen(*words).out
    assert "passed over charades_sta_test.txt, line 2: not VIDEO START END##sentence" in out
    assert "passed over charades_sta_test.txt, line 3: its span from 8 to 6.9 s is reversed" in out
    assert "not in videos: GONE1" in out
    assert "m.jsonl: 1 row of 1 video; 2 passed over (1 for their spans), 1 video missing (1 annotation)" in out
    (record,) = find_clips(Path("m.jsonl"))
    assert (record.path, record.caption, record.duration) == (Path("videos/AO8RW.mp4"), "a person sits.", 6.9)
    report = json.loads(vidgen(*words, "--json", "--split", "test").out)
    assert (report["layout"], report["rows"], report["skipped"], report["bad_spans"]) == ("charades_sta", 1, 2, 1)
    assert report["missing"] == ["GONE1"] and report["skips"][0]["where"] == "line 2"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("nothing", "charades_sta_test.txt", "-o", "m.jsonl"), "layout 'nothing' is unknown; choose one of msrvtt"),
        (("ava", "charades_sta_test.txt", "-o", "m.jsonl"), "not of layout ava"),
        (("ava", "nowhere.csv", "-o", "m.jsonl"), "nowhere.csv: cannot be read: No such file"),
        (("charades_sta", "charades_sta_test.txt", "-o", "m.csv"), "m.csv: manifests are written as lines of JSON"),
        (("charades_sta", "charades_sta_test.txt", "-o", "no/m.jsonl"), "does not exist"),
        (("charades_sta", "charades_sta_test.txt", "-o", "m.jsonl", "--videos", "empty"), "no videos in it"),
        (("charades_sta", "charades_sta_test.txt", "-o", "m.jsonl", "--split", "train"), "no annotations of split"),
        (("charades_sta", "charades_sta_test.txt", "-o", "charades_sta_test.txt"), "is the file that is read"),
    ],
)
def test_bad_input_is_one_line(vidgen, charades: Path, words: tuple, line: str) -> None:
    before = {path.name for path in charades.rglob("*")}
    assert line in vidgen("data", "import", *words).error
    assert {path.name for path in charades.rglob("*")} == before
    assert (charades / "charades_sta_test.txt").read_text() == LINES


def test_the_help_lists_all_layouts() -> None:
    listed = re.search(r"Layouts: (.*?)\.\n", import_layout.__doc__, re.DOTALL)[1]
    assert listed.replace("\n", " ").replace(",", " ").split() == sorted(LAYOUTS, key=lambda name: name)
