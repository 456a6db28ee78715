"""`vidgen evaluate moments`: films of the world, annotated videos, and files of predictions."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vidgen.data.shapes.films import FilmConfig, FilmWorld
from vidgen.data.shapes.labels import ShapeWorldConfig
from vidgen.representations.moments.moment_files import (
    MomentPrediction,
    MomentQuery,
    write_predictions,
    write_queries,
)
from vidgen.representations.moments.spans import Span

LOADER = "vidgen.models.text_video.loading.load_text_video_encoder"


@pytest.fixture(autouse=True)
def encoder(color_encoder: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOADER, lambda name, **settings: color_encoder(num_frames=9))


@pytest.mark.slow
def test_films_of_the_world(vidgen: Callable, tmp_path: Path) -> None:
    words = ("--model", "colors", "--films", 3, "--clips", 8, "--json", "--write", tmp_path / "found.jsonl")
    report = json.loads(vidgen("evaluate", "moments", *words).out)
    scores = report["scores"]
    # of eight clips in eight colours, about every second has its colour for itself; those are all found
    assert scores["similarity, cuts"]["recall"]["R1@0.7"]["mean"] > 0.4
    for baseline in ("random", "center prior"):
        low, high = scores[baseline]["recall"]["R1@0.5"]["interval"]
        assert scores[baseline]["recall"]["R1@0.5"]["mean"] < 0.3 and low < high
    assert report["films"] == 3 and report["skipped"] == []
    assert len((tmp_path / "found.jsonl").read_text().splitlines()) == report["queries"]
    table = vidgen("evaluate", "moments", *words[:6]).out
    assert "center prior" in table and "R1@0.7" in table and "mAP" in table


def test_annotated_videos(vidgen: Callable, tmp_path: Path) -> None:
    world = ShapeWorldConfig(height=32, width=32, num_frames=9, backgrounds=("plain",))
    queries = []
    for index in range(2):
        film = FilmWorld(FilmConfig(world=world, num_clips=4))[index]
        film.write(tmp_path / f"film{index}.mkv")
        for query in film.list_queries():
            spans = tuple(Span(start=start, end=end) for start, end in query.spans)
            queries.append(MomentQuery(qid=len(queries), text=query.caption, video=f"film{index}", spans=spans))
    late = MomentQuery(qid=99, text="a red circle", video="film0", spans=(Span(start=500, end=600),))
    missing = MomentQuery(qid=98, text="a red circle", video="film7", spans=(Span(start=0, end=1),))
    write_queries(tmp_path / "highlight_val_release.jsonl", [*queries, late, missing])
    report = json.loads(vidgen("evaluate", "moments", "--model", "colors", "--data", tmp_path, "--json").out)
    assert report["queries"] == len(queries) and report["films"] == 2
    reasons = {skip["where"]: skip["reason"] for skip in report["skipped"]}
    assert "500 to 600" in reasons["film0, query 99"] and "not in" in reasons["film7"]
    assert report["scores"]["similarity, cuts"]["recall"]["R1@0.5"]["mean"] >= 0.5
    assert "center prior" in report["scores"]


def test_files_of_predictions(vidgen: Callable, tmp_path: Path) -> None:
    data, file = tmp_path / "data.jsonl", tmp_path / "predictions.jsonl"
    spans = (Span(start=0, end=10),)
    write_queries(data, [MomentQuery(qid=i, text="a", video=f"v{i}", spans=spans) for i in range(4)])
    guesses = [(Span(start=0, end=end, score=1.0),) for end in (10, 6, 1)]  # and none of the fourth
    write_predictions(
        file, [MomentPrediction(qid=i, text="a", video=f"v{i}", spans=guess) for i, guess in enumerate(guesses)]
    )
    file.write_text(file.read_text() + "{broken\n")
    report = json.loads(vidgen("evaluate", "moments", "--predictions", file, "--data", data, "--json").out)
    recall = report["scores"]["predictions.jsonl"]["recall"]
    assert recall["R1@0.5"]["mean"] == 0.5 and recall["R1@0.7"]["mean"] == 0.25
    assert report["scores"]["predictions.jsonl"]["mean_average_precision"]["mean"] == pytest.approx((1 + 0.3) / 4)
    assert [skip["where"] for skip in report["skipped"]] == ["line 4"]
    assert "line 4" in vidgen("evaluate", "moments", "--predictions", file, "--data", data).err


def test_bad_input_is_one_line(vidgen: Callable, tmp_path: Path) -> None:
    assert "--data" in vidgen("evaluate", "moments", "--predictions", tmp_path / "x.jsonl").error
    assert "either --model or --predictions" in vidgen("evaluate", "moments").error
    assert "0 .jsonl files" in vidgen("evaluate", "moments", "--model", "colors", "--data", tmp_path).error
