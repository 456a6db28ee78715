"""`vidgen retrieve CLIPS --text` on clips of the world, by an encoder that knows colours."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.data.writing import write_video

LOADER = "vidgen.models.text_video.loading.load_text_video_encoder"


@pytest.fixture(autouse=True)
def encoder(color_encoder: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOADER, lambda name, **settings: color_encoder())


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A clip of each of four colours, and one that is red in its second half."""
    world = ShapeWorld(ShapeWorldConfig(height=32, width=32, num_frames=8, backgrounds=("plain",)))
    videos: dict[str, np.ndarray] = {}
    for index in range(80):
        videos.setdefault(world.sample_labels(index).objects[0].colour, world[index].video)
    folder = tmp_path / "clips"
    folder.mkdir()
    for color in ("red", "blue", "green", "purple"):
        write_video(videos[color], folder / f"{color}.mkv", fps=8)
    (folder / "red.mkv").unlink()
    write_video(np.concatenate([videos["yellow"], videos["red"]]), folder / "late.mkv", fps=8)
    return folder


def test_clips_and_when_in_them(vidgen: Callable, clips: Path, tmp_path: Path) -> None:
    words = ("retrieve", clips, "--text", "red", "--text", "something blue", "--model", "colors")
    report = json.loads(vidgen(*words, "--top-k", 2, "--sheet", tmp_path / "hits.png", "--json").out)
    assert report["clips"] == 4 and list(report["hits"]) == ["red", "something blue"]
    red, blue = (row[0] for row in report["hits"].values())
    assert Path(red["path"]).name == "late.mkv" and red["start"] >= 0.9 and red["score"] > 0.9
    assert Path(blue["path"]).name == "blue.mkv" and len(report["hits"]["red"]) == 2
    with Image.open(tmp_path / "hits.png") as picture:
        assert min(picture.size) > 200
    assert "late.mkv" in vidgen(*words).out


def test_what_cannot_be_read_is_named(vidgen: Callable, clips: Path) -> None:
    (clips / "broken.mkv").write_bytes(b"no film")
    ran = vidgen("retrieve", clips, "--text", "red", "--model", "colors", "--json")
    assert "left out: broken.mkv" in ran.err and json.loads(ran.out)["clips"] == 4


def test_what_is_not_there_is_one_line(vidgen: Callable, clips: Path) -> None:
    assert "--text needs --model" in vidgen("retrieve", clips, "--text", "red").error
    assert "says nothing to look for" in vidgen("retrieve", clips, "--text", " ", "--model", "colors").error
    assert "--model is for --text" in vidgen("retrieve", clips, "--model", "colors").error
