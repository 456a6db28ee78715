"""`vidgen data`: what is kept and dropped, and clips of the synthetic world with captions and labels."""

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from vidgen.data.manifests import find_clips
from vidgen.data.reading import read_video
from vidgen.data.shapes import ClipLabels, ShapeWorld, ShapeWorldConfig, check
from vidgen.data.shapes.scenes import SCENES
from vidgen.scripts.data import Scene


def test_inspection_names_what_is_dropped_and_why(vidgen, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips [red]"
    folder.mkdir()
    shutil.copy(clip, folder / "[bold]good ü.mp4")
    (folder / "empty.mp4").touch()
    for words in ((), ("--first",)):
        report = json.loads(vidgen("data", "inspect", folder, "--json", *words).out)
        assert report["kept"] == 1 and report["frames"] == 9 and report["hours"] == pytest.approx(9 / 8 / 3600)
        assert [Path(drop["path"]).name for drop in report["dropped"]] == ["empty.mp4"]
        assert "empty" in report["dropped"][0]["reason"]
    table = vidgen("data", "inspect", folder).out
    assert "[bold]good ü.mp4" in table and "empty.mp4" in table and "1 kept (9 frames" in table and "1 dropped" in table
    report = json.loads(vidgen("data", "inspect", folder, "--json", "--num-frames", 17).out)
    assert report["kept"] == 0 and len(report["dropped"]) == 2


def test_synthesized_clips_are_a_data_set_that_is_as_labelled(vidgen, tmp_path: Path) -> None:
    out = tmp_path / "shapes ü"
    ran = vidgen("data", "synthesize", "-o", out, "--count", 3, "--seed", 4, "--json")
    assert json.loads(ran.out)["clips"] == 3, ran
    rows = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    records = find_clips(out)
    assert [record.caption for record in records] == [row["caption"] for row in rows]
    for record, row in zip(records, rows, strict=True):
        clip = read_video(record.path)
        assert clip.frames.shape == (17, 64, 64, 3) and clip.fps == 8
        assert check(clip.frames, ClipLabels.from_dict(row["labels"])).all
    again = tmp_path / "again"
    assert vidgen("data", "synthesize", "-o", again, "--count", 3, "--seed", 4).status == 0
    assert (again / "labels.jsonl").read_bytes() == (out / "labels.jsonl").read_bytes()


def test_scenes_are_written_in_groups_with_their_own_labels(vidgen, tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    words = ("--scene", "collision", "--count", 4, "--size", 32, "--num-frames", 9)
    assert vidgen("data", "synthesize", "-o", out, *words).status == 0
    rows = [json.loads(line) for line in (out / "labels.jsonl").read_text().splitlines()]
    assert [row["meets"] for row in rows] == ["meet", "miss"] * 2 and rows[0]["meets_at"] > 0 and rows[0]["count"] == 2
    assert [row["group"] for row in rows] == ["000000", "000000", "000001", "000001"]
    assert [record.extra["group"] for record in find_clips(out / "labels.jsonl")] == [row["group"] for row in rows]
    assert get_args(Scene) == tuple(SCENES)


def test_a_film_is_the_clips_one_after_the_other(vidgen, tmp_path: Path) -> None:
    film, words = tmp_path / "film.mkv", ("--count", 2, "--size", 32, "--fps", 24, "--seed", 4)
    ran = vidgen("data", "synthesize", "-o", film, *words)
    assert ran.status == 0 and "34 frames (1.41667 s) of 32x32 at 24 fps, 2 clips" in ran.out, ran
    world = ShapeWorld(ShapeWorldConfig(height=32, width=32, num_frames=17, fps=24, seed=4))
    read = read_video(film)
    assert read.fps == 24 and np.array_equal(read.frames, np.concatenate([world[k].video for k in range(2)]))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("inspect", "nowhere"), "nowhere: no such file or folder"),
        (("inspect", "full", "--fps", -1), "--fps"),
        (("inspect", "full"), "no clips in this folder"),
        (("synthesize", "-o", "full", "--count", 1), "exists already"),
        (("synthesize", "-o", "no/where", "--count", 1), "does not exist"),
        (("synthesize", "-o", "no/where.mp4", "--count", 1), "does not exist"),
        (("synthesize", "-o", "x", "--count", 1, "--size", 8), "height=8 is not a whole number from 16"),
        (("synthesize", "-o", "x", "--count", 1, "--scene", "order", "--num-frames", 5), "needs 12 frames, got 5"),
        (("synthesize", "-o", "x", "--count", 1, "--scene", "rate", "--max-objects", 2), "--max-objects is of clips"),
        (("synthesize", "-o", "x", "--count", 0), "greater than or equal to 1"),
    ],
)
def test_bad_input_is_one_line(vidgen, tmp_path: Path, monkeypatch, words: tuple, line: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.md").touch()
    assert line in vidgen("data", *words).error
    assert {p.name for p in tmp_path.rglob("*")} == {"full", "notes.md"}


def test_ctrl_c_leaves_nothing(vidgen, tmp_path: Path, monkeypatch) -> None:
    from vidgen.data.shapes import ShapeWorld

    whole = ShapeWorld.__getitem__

    def item(self, index: int):
        if index:
            raise KeyboardInterrupt
        return whole(self, index)

    monkeypatch.setattr(ShapeWorld, "__getitem__", item)
    assert vidgen("data", "synthesize", "-o", tmp_path / "x", "--count", 3).status == 130
    assert not list(tmp_path.iterdir())
