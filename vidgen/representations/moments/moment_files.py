"""Queries on films and what is predicted for them, as QVHighlights and lighthouse keep them: lines of JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vidgen.data.annotations.entries import as_list, iter_json_lines
from vidgen.data.annotations.record import Annotation, parse_id, parse_text
from vidgen.data.annotations.registry import read_annotations
from vidgen.data.annotations.report import ReadReport
from vidgen.errors import VidgenError
from vidgen.files.json_lines import write_json_lines
from vidgen.representations.moments.spans import Span

SALIENCY_SECONDS = 2  # of a clip of QVHighlights whose saliency annotators told
QueryId = int | str


@dataclass(frozen=True, kw_only=True, eq=False)
class MomentQuery:
    """A sentence on a film, and what is true of it.

    duration: of the film in seconds, None where the file does not say. spans: where it is true; none in a test set.
    saliency: of each clip of `SALIENCY_SECONDS`, what annotators said, 0 to 4; None where nobody was asked.
    """

    qid: QueryId
    text: str
    video: str
    duration: float | None = None
    spans: tuple[Span, ...] = ()
    saliency: Float[np.ndarray, "n 3"] | None = None


@dataclass(frozen=True, kw_only=True)
class MomentPrediction:
    """The spans predicted for a query, the best first, and a saliency for each clip of its film, if any."""

    qid: QueryId
    text: str
    video: str
    spans: tuple[Span, ...] = ()
    saliency: tuple[float, ...] | None = None


def read_queries(layout: str, file: Path, report: ReadReport) -> list[MomentQuery]:
    """Return the queries of annotations of any layout with spans, as "qvhighlights" or "charades_sta".

    Spans of one sentence on one video are one query, also where they stand in several entries. Entries that cannot be
    read are counted in `report`. Raises VidgenError for a file of another layout.
    """
    groups: dict[tuple[Any, ...], list[Annotation]] = {}
    for annotation in read_annotations(layout, file, report):
        qid = annotation.extra.get("qid")
        for caption in annotation.captions[:1]:
            key = (qid if isinstance(qid, int | str) else None, annotation.video, caption)
            groups.setdefault(key, []).append(annotation)
    return [_join_query(number, *key, group) for number, (key, group) in enumerate(groups.items())]


def _join_query(number: int, qid: QueryId | None, video: str, text: str, group: list[Annotation]) -> MomentQuery:
    extra = group[0].extra
    duration = extra.get("duration")
    duration = float(duration) if isinstance(duration, int | float) and 0 < duration < math.inf else None
    spans = [(one.start, one.end) for one in group if one.start is not None]
    return MomentQuery(
        qid=number if qid is None else qid,
        text=text,
        video=video,
        duration=duration,
        spans=tuple(Span(start=start, end=end) for start, end in dict.fromkeys(spans)),
        saliency=_expand_saliency(extra.get("relevant_clip_ids"), extra.get("saliency_scores"), duration),
    )


def _expand_saliency(clips: Any, scores: Any, duration: float | None) -> np.ndarray | None:
    """Return the saliency of all clips, 0 for those that are not listed; None where what is there is no saliency."""
    if not isinstance(clips, list) or not isinstance(scores, list) or duration is None:
        return None
    count = int(duration / SALIENCY_SECONDS)
    try:
        table, rows = np.asarray(scores, np.float64), np.asarray(clips, np.int64)
    except (ValueError, TypeError, OverflowError):
        return None
    if table.ndim != 2 or rows.shape != table.shape[:1] or not len(rows) or rows.min() < 0 or rows.max() >= count:
        return None
    saliency = np.zeros((count, table.shape[1]))
    saliency[rows] = table
    return saliency


def write_queries(path: Path, queries: Iterable[MomentQuery]) -> None:
    """Write queries as QVHighlights has its annotations, all or nothing."""
    write_json_lines(path, map(_query_cells, queries))


def _query_cells(query: MomentQuery) -> dict[str, Any]:
    cells: dict[str, Any] = {"qid": query.qid, "query": query.text, "vid": query.video}
    if query.duration is not None:
        cells["duration"] = query.duration
    cells["relevant_windows"] = [[span.start, span.end] for span in query.spans]
    if query.saliency is not None:
        rows = np.flatnonzero(query.saliency.any(axis=1))
        cells["relevant_clip_ids"] = rows.tolist()
        cells["saliency_scores"] = query.saliency[rows].astype(int).tolist()
    return cells


def read_predictions(file: Path, report: ReadReport) -> Iterator[MomentPrediction]:
    """Yield the predictions of a file; lines that are none are counted in `report` by their number, and passed over."""
    for where, cells in iter_json_lines(file, report):
        with report.entry(where):
            prediction = _parse_prediction(cells)
            report.read += 1
            yield prediction


def _parse_prediction(cells: dict[str, Any]) -> MomentPrediction:
    qid = cells.get("qid")
    if not isinstance(qid, int | str) or isinstance(qid, bool):
        raise VidgenError("its qid is neither a number nor a name")
    windows = as_list(cells.get("pred_relevant_windows", []), "pred_relevant_windows")
    saliency = cells.get("pred_saliency_scores")
    if saliency is not None:
        saliency = tuple(_parse_number(value, "pred_saliency_scores") for value in as_list(saliency, "saliency"))
    return MomentPrediction(
        qid=qid,
        text=parse_text(cells.get("query"), "query"),
        video=parse_id(cells.get("vid"), "vid"),
        spans=tuple(map(_parse_window, windows)),
        saliency=saliency,
    )


def _parse_window(window: Any) -> Span:
    numbers = [_parse_number(value, "pred_relevant_windows") for value in as_list(window, "window")]
    if len(numbers) != 3:
        raise VidgenError(f"its window {str(window)[:40]} is not [start, end, score]")
    return Span(start=numbers[0], end=numbers[1], score=numbers[2])


def _parse_number(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise VidgenError(f"its {name} has {str(value)[:40]!r}, not a number")
    return float(value)


def write_predictions(path: Path, predictions: Iterable[MomentPrediction]) -> None:
    """Write predictions as lighthouse and the evaluation of QVHighlights read them, all or nothing."""
    write_json_lines(path, map(prediction_cells, predictions))


def prediction_cells(prediction: MomentPrediction) -> dict[str, Any]:
    """Return a prediction as an object of JSON."""
    cells: dict[str, Any] = {"qid": prediction.qid, "query": prediction.text, "vid": prediction.video}
    cells["pred_relevant_windows"] = [[span.start, span.end, span.score] for span in prediction.spans]
    if prediction.saliency is not None:
        cells["pred_saliency_scores"] = list(prediction.saliency)
    return cells


def match_predictions(
    queries: Iterable[MomentQuery], predictions: Iterable[MomentPrediction]
) -> tuple[list[MomentQuery], list[MomentPrediction]]:
    """Return the queries that have a true span, and the prediction of each, an empty one where there is none.

    Raises VidgenError where no prediction is of any query: they are of other annotations.
    """
    by_id = {prediction.qid: prediction for prediction in predictions}
    queries = [query for query in queries if query.spans]
    if not any(query.qid in by_id for query in queries):
        raise VidgenError(f"none of {len(by_id)} predictions is of one of {len(queries)} queries with spans")
    empty = (MomentPrediction(qid=query.qid, text=query.text, video=query.video) for query in queries)
    return queries, [by_id.get(query.qid, default) for query, default in zip(queries, empty, strict=True)]
