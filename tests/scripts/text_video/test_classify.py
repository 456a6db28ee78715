"""`vidgen classify` on clips of the world, by an encoder that knows colours."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.data.writing import write_video

LOADER = "vidgen.models.text_video.loading.load_text_video_encoder"


@pytest.fixture(autouse=True)
def encoder(color_encoder: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOADER, lambda name, **settings: color_encoder())


@pytest.fixture
def clips(tmp_path: Path) -> dict[str, Path]:
    """A clip of nine frames, more than a window, for each of three colours."""
    world = ShapeWorld(ShapeWorldConfig(height=32, width=32, num_frames=9, backgrounds=("plain",)))
    places = {}
    for index in range(60):
        labels = world.sample_labels(index)
        color = labels.objects[0].colour
        if color in ("red", "blue", "green") and color not in places:
            places[color] = tmp_path / f"{color}.mkv"
            write_video(world[index].video, places[color], fps=8)
    return places


def test_colours_are_told(vidgen: Callable, clips: dict[str, Path]) -> None:
    words = ("classify", *clips.values(), "--labels", "red,blue,green", "--model", "colors")
    report = json.loads(vidgen(*words, "--json").out)
    assert [row["label"] for row in report["clips"]] == list(clips)
    for row in report["clips"]:
        assert sum(row["probabilities"].values()) == pytest.approx(1) and row["probabilities"][row["label"]] > 0.9
        assert len(row["texts"]) == 3
    assert "red" in vidgen(*words).out
    once = json.loads(vidgen(*words, "--template", "it is {} now", "--contexts", "big,small", "--json").out)
    assert [row["label"] for row in once["clips"]] == list(clips)
    assert once["clips"][0]["contexts"] == pytest.approx({"big": 0.5, "small": 0.5})  # of which it knows nothing


def test_descriptions_say_why(vidgen: Callable, clips: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "classes.json"
    file.write_text(json.dumps({"fire": ["is red and hot", "is orange"], "sea": ["is blue"]}))
    out = vidgen("classify", clips["red"], "--descriptors", file, "--model", "colors").out
    assert "fire" in out and "fire, which is red and hot" in out


def test_what_is_no_choice_is_one_line(vidgen: Callable, clips: dict[str, Path], tmp_path: Path) -> None:
    words = ("classify", clips["red"], "--model", "colors")
    assert "give the classes by --labels" in vidgen(*words).error
    assert "1 label is no choice" in vidgen(*words, "--labels", "red").error
    assert "is there twice" in vidgen(*words, "--labels", "red,red").error
    assert "no such file" in vidgen("classify", tmp_path / "no.mp4", "--labels", "a,b", "--model", "c").error.lower()
