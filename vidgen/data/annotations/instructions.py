"""Steps, chapters and narrations of long videos: ActivityNet Captions, VidChapters, YouCook2, COIN, HowTo100M."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidgen.data.annotations.entries import FEW_KEYS, as_list, as_object, as_pair, iter_object, iter_table
from vidgen.data.annotations.record import (
    Annotation,
    keep_cells,
    name_split,
    parse_id,
    parse_span,
    parse_text,
    split_in_name,
)
from vidgen.data.annotations.report import ReadReport, WrongLayout
from vidgen.errors import VidgenError


def read_activitynet_captions(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read ActivityNet Captions (Krishna et al. 2017): an object of `duration`, `timestamps` and as many `sentences`
    for each video. Its ids begin with v_, the names of files may not."""
    for where, key, value in iter_object(file):
        with report.entry(where):
            yield from _dense_spans(report, where, key, as_object(value), split_in_name(file))


def read_vidchapters(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read VidChapters-7M (Yang et al. 2023): an object of `duration`, `timestamps` and `sentences` for each video
    (chapters_dvc_train.json), or of `duration` and `chapters`, each with `time`, where it starts, and `label`.

    A chapter goes on to the next one, the last one to the end of its video.
    """
    for where, key, value in iter_object(file):
        with report.entry(where):
            cells = as_object(value)
            if "chapters" in cells:
                chapters = [as_object(chapter) for chapter in as_list(cells["chapters"], "chapters")]
                starts = [chapter.get("time") for chapter in chapters]
                ends = [*starts[1:], cells.get("duration")]
                cells["timestamps"] = [list(pair) for pair in zip(starts, ends, strict=True)]
                cells["sentences"] = [chapter.get("label") for chapter in chapters]
            yield from _dense_spans(report, where, key, cells, split_in_name(file))


def _dense_spans(
    report: ReadReport, where: str, video: str, cells: dict[str, Any], split: str | None
) -> Iterator[Annotation]:
    """Yield the spans of one video, each with its sentence."""
    spans = as_list(cells.get("timestamps"), "timestamps")
    sentences = as_list(cells.get("sentences"), "sentences")
    if len(spans) != len(sentences):
        raise VidgenError(f"{len(spans)} timestamps for {len(sentences)} sentences")
    for span, sentence in zip(spans, sentences, strict=True):
        with report.entry(where):
            start, end = parse_span(*as_pair(span), cells.get("duration"))
            yield Annotation(
                video=video,
                aliases=(video.removeprefix("v_"),) if video.startswith("v_") else (),
                captions=(parse_text(sentence, "sentence"),),
                start=start,
                end=end,
                split=split,
            )


def read_youcook2(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read YouCook2 (Zhou et al. 2018): `database` of videos with `subset`, `duration`, `recipe_type` and
    `annotations`, each with `segment` in seconds, `id` and, but for the test, `sentence`. Labels are recipes."""
    yield from _steps(file, report, "annotations", "sentence")


def read_coin(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read COIN (Tang et al. 2019): `database` of videos with `subset`, `duration`, `class` and `annotation`, each with
    `segment` in seconds, `id` and `label`. The label of a span is its step; `class` is the task of the video."""
    yield from _steps(file, report, "annotation", "label")


def _steps(file: Path, report: ReadReport, steps: str, text: str) -> Iterator[Annotation]:
    database = next((value for _, key, value in iter_object(file, FEW_KEYS) if key == "database"), None)
    if not isinstance(database, dict):
        raise WrongLayout("it has no `database`")
    for number, (video, value) in enumerate(database.items(), 1):
        where = f"entry {number} ({video[:60]})"
        with report.entry(where):
            cells = as_object(value)
            for step in as_list(cells.get(steps), steps):
                with report.entry(where):
                    yield _step(video, cells, as_object(step), text)


def _step(video: str, cells: dict[str, Any], step: dict[str, Any], text: str) -> Annotation:
    start, end = parse_span(*as_pair(step.get("segment")), cells.get("duration"))
    words = (parse_text(step[text], text),) if text in step else ()
    is_class = text == "label"
    if is_class and not words:
        raise VidgenError("its step has no label")
    extra = keep_cells(cells, "annotation", "annotations", "duration", "subset", "video_url", "start", "end")
    return Annotation(
        video=parse_id(video),
        captions=words,
        labels=words if is_class else tuple(str(cells[name]) for name in ("recipe_type",) if name in cells),
        start=start,
        end=end,
        split=name_split(cells.get("subset")),
        extra=extra | {"step": str(step.get("id", ""))},
    )


def read_howto100m(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read HowTo100M (Miech et al. 2019): narrations as an object of lists `start`, `end` and `text` for each video, or
    as one CSV a video with these columns, called for it; or its list of videos, HowTo100M_v1.csv.

    Texts may be lists of sentences, as HowToCaption has them.
    """
    if file.suffix.lower() == ".csv":
        yield from _howto100m_tables(file, report)
        return
    for where, key, value in iter_object(file):
        with report.entry(where):
            cells = as_object(value)
            columns = [as_list(cells.get(name), name) for name in ("start", "end", "text")]
            if len({len(column) for column in columns}) > 1:
                raise VidgenError("its lists start, end and text differ in length")
            for start, end, text in zip(*columns, strict=True):
                with report.entry(where):
                    yield _narration(key, start, end, text)


def _howto100m_tables(file: Path, report: ReadReport) -> Iterator[Annotation]:
    try:
        for where, row in iter_table(file, report, "start", "end", "text"):
            with report.entry(where):
                yield _narration(file.stem, row["start"], row["end"], row["text"])
    except WrongLayout:
        if report.read:
            raise
        for where, row in iter_table(file, report, "video_id", "category_1", "task_id"):
            with report.entry(where):
                categories = (row["category_1"], row.get("category_2", ""))
                yield Annotation(
                    video=parse_id(row["video_id"]),
                    labels=tuple(name for name in categories if name),
                    extra=keep_cells(row, "video_id", "category_1", "category_2"),
                )


def _narration(video: str, start: Any, end: Any, text: Any) -> Annotation:
    first, last = parse_span(start, end)
    sentences = text if isinstance(text, list) and text else [text]
    captions = tuple(parse_text(sentence, "text") for sentence in sentences)
    return Annotation(video=parse_id(video), captions=captions, start=first, end=last)
