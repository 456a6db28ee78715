"""`vidgen data curate`: a manifest that is read again, filters that count and name, and damage that is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from vidgen.data.manifests import find_clips
from vidgen.data.writing import write_video
from vidgen.scripts.curation.curate import curate
from vidgen.scripts.data import app


@pytest.fixture
def clips(tmp_path: Path, monkeypatch) -> Path:
    """Clips that move and that stand still, one twice, a short one and one that is cut off."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "clips"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    still, other = (noise[k : k + 1].repeat(16, 0) for k in (0, 1))
    moving = np.stack([np.roll(noise[2], 2 * k, axis=1) for k in range(16)])
    write_video(moving, folder / "a_moving.mp4", fps=8)
    write_video(still, folder / "b_still.mp4", fps=8)
    write_video(moving, folder / "c_again.mp4", fps=8, crf=34)
    write_video(moving[:4, ::-1], folder / "d_short.mp4", fps=8)
    write_video(other, folder / "e_cut.mp4", fps=8)
    cut = folder / "e_cut.mp4"
    cut.write_bytes(cut.read_bytes()[:300])
    (folder / "a_moving.txt").write_text("noise that moves\n")
    return folder


def test_columns_are_added_and_damage_is_named(vidgen, clips: Path) -> None:
    report = json.loads(vidgen("data", "curate", "clips", "-o", "m.jsonl", "--json").out)
    assert (report["clips"], report["kept"], report["dropped"], report["duplicates"]) == (5, 4, {"unreadable": 1}, 1)
    assert report["drops"][0]["id"] == "e_cut.mp4"
    records = find_clips(Path("m.jsonl"))
    assert [record.path for record in records] == [
        Path("clips") / name for name in ("a_moving.mp4", "b_still.mp4", "c_again.mp4", "d_short.mp4")
    ]
    assert records[0].caption == "noise that moves"
    assert [record.extra["duplicate_of"] for record in records] == [
        *("a_moving.mp4", "b_still.mp4", "a_moving.mp4", "d_short.mp4")
    ]
    assert float(records[0].extra["quality_motion"]) > 1 > float(records[1].extra["quality_motion"])
    assert [float(record.extra["quality_seconds"]) for record in records] == [2, 2, 2, 0.5]


def test_filters_count_and_name(vidgen, clips: Path) -> None:
    words = ("--min-motion", "1", "--min-seconds", "1", "--drop-duplicates")
    out = vidgen("data", "curate", "clips", "-o", "m.jsonl", *words).out
    assert "dropped b_still.mp4: min_motion: motion 0" in out
    assert "dropped c_again.mp4: nearly the same as a_moving.mp4" in out
    assert "dropped d_short.mp4: min_seconds: seconds 0.5" in out
    counts = "1 by unreadable, 1 by min_motion, 1 by drop_duplicates, 1 by min_seconds"
    assert f"m.jsonl: 1 of 5 clips; dropped {counts}; 1 near-duplicate" in " ".join(out.split())


def test_a_manifest_keeps_its_columns_and_windows(vidgen, clips: Path) -> None:
    rows = [
        {"path": "clips/a_moving.mp4", "label": "x", "start": 0.5, "duration": 1.0, "topic": "noise", "motion": "left"},
        {"path": "clips/b_still.mp4", "start": 0.5, "end": 1.5},
    ]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vidgen("data", "curate", "in.jsonl", "-o", "m.jsonl", "--max-motion", "255", "--min-sharpness", "0.1")
    before, after = find_clips(Path("in.jsonl")), find_clips(Path("m.jsonl"))
    for old, new in zip(before, after, strict=True):
        assert (old.path, old.label, old.start, old.duration) == (new.path, new.label, new.start, new.duration)
        assert old.extra.items() <= new.extra.items() and float(new.extra["quality_seconds"]) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("clips", "-o", "m.csv"), "m.csv: manifests are written as lines of JSON"),
        (("clips", "-o", "m.jsonl", "--min-sharpness", "1e7"), "none of 5 clips is left"),
        (("nowhere", "-o", "m.jsonl"), "nowhere: no such file or folder"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(vidgen, clips: Path, words, line: str) -> None:
    result = vidgen("data", "curate", *words)
    assert line in result.error and not Path(words[2]).exists()


def test_the_verb_is_one_of_vidgen_data() -> None:
    assert curate in [command.callback for command in app.registered_commands]
