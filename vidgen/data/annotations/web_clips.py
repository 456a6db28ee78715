"""Captioned clips of the web, for generation: Panda-70M, InternVid, VideoUFO, FineVideo."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from vidgen.data.annotations.entries import (
    FEW_KEYS,
    as_list,
    as_object,
    as_pair,
    iter_json_lines,
    iter_object,
    iter_table,
)
from vidgen.data.annotations.record import Annotation, keep_cells, parse_id, parse_span, parse_text, split_in_name
from vidgen.data.annotations.report import ReadReport, WrongLayout
from vidgen.errors import VidgenError


def read_panda_70m(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read Panda-70M (Chen et al. 2024): CSV with `videoID`, `url`, `timestamp`, `caption` and `matching_score`.

    A row is of a source; its cells are Python lists with an item for each clip: pairs of h:mm:ss.mmm, sentences,
    scores, and in later versions `desirable_filtering` and `shot_boundary_detection`.
    """
    for where, row in iter_table(file, report, "videoid", "timestamp", "caption"):
        with report.entry(where):
            spans = _literal_list(row["timestamp"], "timestamp")
            captions = _literal_list(row["caption"], "caption", len(spans))
            others = keep_cells(row, "videoid", "url", "timestamp", "caption")
            columns = {name: _literal_list(cell, name, len(spans)) for name, cell in others.items()}
            for number, (span, caption) in enumerate(zip(spans, captions, strict=True)):
                with report.entry(where):
                    start, end = parse_span(*as_pair(list(span) if isinstance(span, tuple) else span))
                    yield Annotation(
                        video=parse_id(row["videoid"], "videoID"),
                        captions=(parse_text(caption, "caption"),),
                        start=start,
                        end=end,
                        split=split_in_name(file),
                        extra={name: column[number] for name, column in columns.items()},
                    )


def _literal_list(cell: str, name: str, length: int | None = None) -> list[Any]:
    """Return the list that a cell writes as Python does, of a length. Raises VidgenError for another."""
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise VidgenError(f"its {name} is no list of Python") from None
    items = as_list(value, name)
    if length is not None and len(items) != length:
        raise VidgenError(f"its {name} has {len(items)} items for {length} spans")
    return items


def read_internvid(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read InternVid (Wang et al. 2023): lines of JSON with `YoutubeID`, `Start_timestamp`, `End_timestamp`
    (hh:mm:ss.mmm) and `Caption`; `Aesthetic_Score` and `UMT_Score` are kept."""
    names = ("YoutubeID", "Start_timestamp", "End_timestamp", "Caption")
    for where, cells in iter_json_lines(file, report):
        with report.entry(where):
            start, end = parse_span(cells.get("Start_timestamp"), cells.get("End_timestamp"))
            yield Annotation(
                video=parse_id(cells.get("YoutubeID"), "YoutubeID"),
                captions=(parse_text(cells.get("Caption"), "Caption"),),
                start=start,
                end=end,
                extra=keep_cells(cells, *names),
            )


def read_videoufo(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read VideoUFO (Wang and Yang 2025): CSV with `ID`, `Topic`, `Detailed Caption`, `Brief Caption`, `Start Time` and
    `End Time`; blanks may be underscores. The detailed caption comes first.

    The clip `ID` is called for its source and a number, SOURCE.N; its times are of the source. Topics are labels.
    """
    names = ("id", "topic", "detailed_caption", "brief_caption", "start_time", "end_time")
    for where, row in iter_table(file, report, *names):
        with report.entry(where):
            clip = parse_id(row["id"], "ID")
            source, dot, _ = clip.rpartition(".")
            start, end = parse_span(row["start_time"], row["end_time"])
            captions = (row["detailed_caption"], row["brief_caption"])
            yield Annotation(
                video=source if dot else clip,
                clip=clip,
                captions=tuple(parse_text(text, "caption") for text in captions),
                labels=(row["topic"],) if row["topic"] else (),
                start=start,
                end=end,
                extra=keep_cells(row, *names, "middle_frame"),
            )


def read_finevideo(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read FineVideo (Farré et al. 2024): the JSON of one video, or one a line (.jsonl).

    A video is one annotation with its description (`part` "video"), one for each scene by its title ("scene"), and one
    for each activity by its description ("activity"). Files of one video are called as the video's is, sample_0.
    """
    if file.suffix.lower() == ".jsonl":
        for where, cells in iter_json_lines(file, report):
            with report.entry(where):
                yield from _finevideo_parts(report, where, cells, "")
        return
    cells = {key: value for _, key, value in iter_object(file, FEW_KEYS)}
    if "content_metadata" not in cells:
        raise WrongLayout("it has no `content_metadata`")
    with report.entry("entry 1"):
        yield from _finevideo_parts(report, "entry 1", cells, file.stem)


def _finevideo_parts(report: ReadReport, where: str, cells: dict[str, Any], stem: str) -> Iterator[Annotation]:
    content = as_object(cells.get("content_metadata"))
    names = (cells.get("original_video_filename"), stem)
    video, *aliases = [PurePath(name).name for name in names if name] or [""]
    labels = tuple(str(cells[name]) for name in ("content_fine_category",) if cells.get(name))
    about = keep_cells({name: cells.get(name) for name in ("youtube_title", "content_parent_category")})

    def part(kind: str, text: Any, times: Any = None) -> Annotation:
        start, end = None, None
        if times is not None:
            span = as_object(times)
            ends = (span.get("start_timestamp"), span.get("end_timestamp"))
            start, end = parse_span(*ends, cells.get("duration_seconds"))
        return Annotation(
            video=video,
            aliases=tuple(aliases),
            captions=(parse_text(text, f"{kind}'s text"),),
            labels=labels,
            start=start,
            end=end,
            extra={"part": kind} | about,
        )

    with report.entry(where):
        yield part("video", content.get("description"))
    for scene in _objects(content.get("scenes")):
        with report.entry(where):
            yield part("scene", scene.get("title"), scene.get("timestamps", {}))
        for activity in _objects(scene.get("activities")):
            with report.entry(where):
                yield part("activity", activity.get("description"), activity.get("timestamp", {}))


def _objects(value: Any) -> Sequence[dict[str, Any]]:
    """Return a list of objects, which may be missing."""
    return [as_object(item) for item in as_list(value or [], "scenes")]
