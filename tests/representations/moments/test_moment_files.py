"""Lines of JSON of QVHighlights and lighthouse: there and back again, and lines that are none."""

import json
from pathlib import Path

import numpy as np
import pytest

from vidgen.data.annotations.report import ReadReport
from vidgen.errors import VidgenError
from vidgen.representations.moments.moment_files import (
    MomentPrediction,
    MomentQuery,
    match_predictions,
    read_predictions,
    read_queries,
    write_predictions,
    write_queries,
)
from vidgen.representations.moments.spans import Span

# a line in the true format, in words of our own
LINE = {
    "qid": 2579,
    "query": "A girl and her mother cooked while talking on the phone.",
    "duration": 150,
    "vid": "NUsG9BgSes0_210.0_360.0",
    "relevant_clip_ids": [0, 3],
    "saliency_scores": [[2, 1, 3], [4, 4, 3]],
    "relevant_windows": [[0, 2], [6, 8]],
}


def test_queries_of_qvhighlights(tmp_path: Path) -> None:
    file = tmp_path / "highlight_val_release.jsonl"
    file.write_text(json.dumps(LINE) + "\nnot json\n" + json.dumps(LINE | {"qid": 3, "relevant_windows": [[5, 4]]}))
    report = ReadReport()
    (query,) = read_queries("qvhighlights", file, report)
    assert query.qid == 2579 and query.duration == 150 and query.text == LINE["query"]
    assert query.spans == (Span(start=0, end=2), Span(start=6, end=8))
    assert query.saliency.shape == (75, 3) and query.saliency[3].tolist() == [4, 4, 3] and query.saliency.sum() == 17
    assert (
        report.skipped == 2 and report.bad_spans == 1 and [where for where, _ in report.skips] == ["line 2", "line 3"]
    )


def test_queries_come_back(tmp_path: Path) -> None:
    saliency = np.zeros((6, 3))
    saliency[2] = (1, 4, 0)
    queries = [
        MomentQuery(
            qid=7, text="a red circle moves up", video="film", duration=12.0, spans=(Span(start=0.5, end=2),),
            saliency=saliency,
        ),
        MomentQuery(qid="b", text="ein Kreis 動", video="film", spans=(Span(start=1, end=2), Span(start=4, end=9))),
    ]  # fmt: skip
    write_queries(tmp_path / "queries.jsonl", queries)
    back = read_queries("qvhighlights", tmp_path / "queries.jsonl", ReadReport())
    for one, two in zip(queries, back, strict=True):
        assert (one.qid, one.text, one.video, one.duration, one.spans) == (
            two.qid,
            two.text,
            two.video,
            two.duration,
            two.spans,
        )
    assert np.array_equal(back[0].saliency, saliency) and back[1].saliency is None


def test_queries_of_other_layouts(tmp_path: Path) -> None:
    file = tmp_path / "charades_sta_test.txt"
    file.write_text("AO8RW 0.0 6.9##a person sits\nAO8RW 8.0 9.5##a person sits\nAO8RW 1.0 2.0##a person stands\n")
    queries = read_queries("charades_sta", file, ReadReport())
    assert [(query.qid, len(query.spans)) for query in queries] == [(0, 2), (1, 1)]


def test_predictions_come_back(tmp_path: Path) -> None:
    predictions = [
        MomentPrediction(
            qid=1, text="a", video="x", spans=(Span(start=0, end=2.5, score=0.9),), saliency=(0.25, -1.0, 0.0)
        ),
        MomentPrediction(qid="two", text="b", video="y"),
    ]
    write_predictions(tmp_path / "predictions.jsonl", predictions)
    assert list(read_predictions(tmp_path / "predictions.jsonl", ReadReport())) == predictions
    first = json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[0])
    assert list(first) == ["qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores"]
    assert first["pred_relevant_windows"] == [[0, 2.5, 0.9]]


def test_lines_that_are_no_predictions_are_counted(tmp_path: Path) -> None:
    sound = {"qid": 1, "query": "a", "vid": "x", "pred_relevant_windows": [[0, 1, 0.5]]}
    broken = [
        "{",
        json.dumps(sound | {"qid": None}),
        json.dumps(sound | {"query": " "}),
        json.dumps(sound | {"pred_relevant_windows": [[2, 1, 0.5]]}),  # reversed
        json.dumps(sound | {"pred_relevant_windows": [[0, 1]]}),
        json.dumps(sound | {"pred_relevant_windows": [[0, 1, "high"]]}),
        json.dumps(sound | {"pred_saliency_scores": [True]}),
    ]
    file = tmp_path / "predictions.jsonl"
    file.write_text("\n".join([json.dumps(sound), *broken, json.dumps(sound | {"qid": 2})]))
    report = ReadReport()
    assert [one.qid for one in read_predictions(file, report)] == [1, 2]
    assert (report.read, report.skipped, report.bad_spans) == (2, 7, 1)
    assert [where for where, _ in report.skips] == [f"line {number}" for number in range(2, 9)]


def test_matching() -> None:
    span = Span(start=0, end=1)
    queries = [
        MomentQuery(qid=1, text="a", video="x", spans=(span,)),
        MomentQuery(qid=2, text="b", video="x"),  # of a test set
        MomentQuery(qid=3, text="c", video="x", spans=(span,)),
    ]
    prediction = MomentPrediction(qid=3, text="c", video="x", spans=(span,))
    kept, matched = match_predictions(queries, [prediction])
    assert [query.qid for query in kept] == [1, 3] and matched[0].spans == () and matched[1] == prediction
    with pytest.raises(VidgenError, match="none of 1 predictions"):
        match_predictions(queries, [MomentPrediction(qid=9, text="c", video="x")])
