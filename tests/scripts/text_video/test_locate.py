"""`vidgen locate` on a film of the world, by an encoder that knows colours."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from vidgen.data.annotations.report import ReadReport
from vidgen.data.shapes.films import Film, FilmConfig, FilmWorld
from vidgen.data.shapes.labels import ShapeWorldConfig
from vidgen.representations.moments.moment_files import read_predictions
from vidgen.scripts.cli.moments import format_time

LOADER = "vidgen.models.text_video.loading.load_text_video_encoder"


@pytest.fixture(scope="module")
def film() -> Film:
    """Six clips, of which one shows something orange."""
    world = ShapeWorldConfig(height=32, width=32, num_frames=9, backgrounds=("plain",))
    config = FilmConfig(world=world, num_clips=6)
    films = (FilmWorld(config)[index] for index in range(100))
    return next(film for film in films if [c.labels.objects[0].colour for c in film.clips].count("orange") == 1)


@pytest.fixture
def path(film: Film, tmp_path: Path) -> Path:
    return film.write(tmp_path / "film.mkv")


@pytest.fixture(autouse=True)
def encoder(color_encoder: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOADER, lambda name, **settings: color_encoder())


def orange_clip(film: Film) -> tuple[float, float]:
    clip = next(clip for clip in film.clips if clip.labels.objects[0].colour == "orange")
    return clip.start, clip.end


def test_the_moment_is_found(vidgen: Callable, film: Film, path: Path) -> None:
    ran = vidgen("locate", path, "something orange", "--model", "colors", "--json", "--chapters", "--summary", 2)
    report = json.loads(ran.out)
    (query,) = report["queries"]
    best = query["spans"][0]
    assert (best["start"], best["end"]) == pytest.approx(orange_clip(film), abs=2e-3) and 0.5 < best["score"] <= 1
    assert len(query["spans"]) <= 5 and report["duration"] == pytest.approx(film.duration, abs=2e-3)
    assert query["summary"]["seconds"] <= 2
    start, end = query["summary"]["spans"][0]
    assert start < best["end"] and end > best["start"]
    assert report["chapters"][0][0] == 0 and report["chapters"][-1][1] == report["duration"]


def test_table_lines_and_sheet(vidgen: Callable, film: Film, path: Path, tmp_path: Path) -> None:
    output, sheet = tmp_path / "moments.jsonl", tmp_path / "moments.png"
    words = ("something orange", "a red circle", "--model", "colors", "--top-k", 2, "--output", output)
    ran = vidgen("locate", path, *words, "--sheet", sheet, "--adapt")
    assert ran.status == 0, ran.err
    start, end = orange_clip(film)
    assert "something orange" in ran.out and format_time(start) in ran.out and format_time(end) in ran.out
    first, second = read_predictions(output, ReadReport())
    assert (first.text, first.video, len(first.spans)) == ("something orange", "film", 2)
    assert first.spans[0].start == pytest.approx(start, abs=2e-3) and second.text == "a red circle"
    assert len(first.saliency) == int(film.duration / 2)
    assert Image.open(sheet).width > 500


def test_bad_input_is_one_line(vidgen: Callable, path: Path, tmp_path: Path) -> None:
    assert "says nothing" in vidgen("locate", path, " ", "--model", "colors").error
    assert "no such file" in vidgen("locate", tmp_path / "none.mp4", "a", "--model", "colors").error
    assert "moments.jsonl" in vidgen("locate", path, "a", "--model", "c", "-o", tmp_path / "x" / "moments.jsonl").error
    assert "a window of the model 4" in vidgen("locate", path, "a", "--model", "c", "--fps", 0.1).error


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00.0"), (63.46, "1:03.5"), (59.96, "1:00.0"), (3723.5, "1:02:03.5"), (599.97, "10:00.0")],
)
def test_times_in_words(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
