"""Sentences on whole clips: MSR-VTT, MSVD and its Indonesian form, VATEX, VidGen-1M, Condensed Movies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from vidgen.data.annotations.entries import FEW_KEYS, as_list, as_object, iter_lines, iter_list, iter_object, iter_table
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

CUT_NAME = re.compile(r"(?P<video>.+)_(?P<start>\d+)_(?P<end>\d+)")  # seconds of the video that a clip was cut from
YOUTUBE_ID = re.compile(r"(?:v=|youtu\.be/|embed/)([\w-]{11})")


def read_msrvtt(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read MSR-VTT: JSON of `videos` and `sentences`, or the CSV of the 1k-A test (`key,vid_key,video_id,sentence`).

    The clips are called video0 and so on; "start time" and "end time" are of the source at `url`. Labels are the
    numbers of categories.
    """
    if file.suffix.lower() == ".csv":
        for where, row in iter_table(file, report, "video_id", "sentence"):
            with report.entry(where):
                caption = parse_text(row["sentence"], "sentence")
                yield Annotation(video=parse_id(row["video_id"]), captions=(caption,), split=split_in_name(file))
        return
    parts = {key: value for _, key, value in iter_object(file, FEW_KEYS)}
    if not all(isinstance(parts.get(key), list) for key in ("videos", "sentences")):
        raise WrongLayout("it has no lists `videos` and `sentences`")
    captions: dict[str, list[str]] = {}
    errors: list[tuple[str, VidgenError]] = []
    for number, sentence in enumerate(parts["sentences"], 1):
        try:
            cells = as_object(sentence)
            caption = parse_text(cells.get("caption"), "caption")
            captions.setdefault(parse_id(cells.get("video_id")), []).append(caption)
        except VidgenError as error:
            errors.append((f"sentence {number}", error))
    for number, video in enumerate(parts["videos"], 1):
        with report.entry(f"video {number}"):
            cells = as_object(video)
            yield _msrvtt_clip(cells, captions.pop(parse_id(cells.get("video_id")), []))
    errors += [(f"sentences of {name}", VidgenError("`videos` does not list it")) for name in captions]
    for where, error in errors:
        report.skip(where, error)


def _msrvtt_clip(cells: dict[str, Any], captions: list[str]) -> Annotation:
    if not captions:
        raise VidgenError("it has no sentences")
    name = parse_id(cells["video_id"])
    source = YOUTUBE_ID.search(str(cells.get("url")))
    start, end = parse_span(cells.get("start time"), cells.get("end time")) if source else (None, None)
    return Annotation(
        video=source[1] if source else name,
        clip=name if source else None,
        captions=tuple(captions),
        labels=(str(cells["category"]),) if "category" in cells else (),
        start=start,
        end=end,
        split=name_split(cells.get("split")),
        extra={"url": cells["url"]} if source else {},
    )


def read_msvd(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read MSVD: a line of a clip's name, a blank and a sentence (AllVideoDescriptions.txt, where # begins a remark;
    MSVD-indonesian.txt), or the corpus's CSV with VideoID, Start, End, Language and Description.

    Clips are called ID_START_END, in seconds of the source. Sentences that follow each other on one clip, in one
    language, are one annotation.
    """
    rows = _msvd_corpus(file, report) if file.suffix.lower() == ".csv" else _msvd_lines(file, report)
    for (name, language), group in groupby(rows, key=lambda row: row[:2]):
        captions = tuple(caption for *_, caption in group)
        video, start, end = CUT_NAME.fullmatch(name).groups()
        extra = {"language": language} if language else {}
        yield Annotation(video=video, clip=name, captions=captions, start=float(start), end=float(end), extra=extra)


def _msvd_lines(file: Path, report: ReadReport) -> Iterator[tuple[str, str, str]]:
    for where, line in iter_lines(file):
        if line.startswith("#"):
            continue
        with report.entry(where):
            name, _, sentence = line.strip().partition(" ")
            yield _check_cut(name), "", parse_text(sentence, "sentence")


def _msvd_corpus(file: Path, report: ReadReport) -> Iterator[tuple[str, str, str]]:
    for where, row in iter_table(file, report, "videoid", "start", "end", "language", "description"):
        with report.entry(where):
            name = f"{parse_id(row['videoid'])}_{row['start']}_{row['end']}"
            yield _check_cut(name), row["language"], parse_text(row["description"], "description")


def _check_cut(name: str) -> str:
    """Return the name of a clip that says its span. Raises VidgenError for another name, or a reversed span."""
    match = CUT_NAME.fullmatch(name)
    if match is None:
        raise VidgenError(f"{name[:60]!r} is no clip's name, ID_START_END")
    parse_span(match["start"], match["end"])
    return name


def read_vatex(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read VATEX: a list of `videoID` (ID_START_END, six digits a time), `enCap` and, but for the tests, `chCap`."""
    for where, value in iter_list(file):
        with report.entry(where):
            cells = as_object(value)
            name = _check_cut(parse_id(cells.get("videoID"), "videoID"))
            video, start, end = CUT_NAME.fullmatch(name).groups()
            sentences = as_list(cells.get("enCap"), "enCap")
            chinese = [parse_text(text, "chCap") for text in as_list(cells.get("chCap", []), "chCap")]
            yield Annotation(
                video=video,
                clip=name,
                captions=tuple(parse_text(text, "enCap") for text in sentences),
                start=float(start),
                end=float(end),
                split=split_in_name(file),
                extra={"captions_zh": chinese} if chinese else {},
            )


def read_vidgen_1m(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read VidGen-1M: a list of `vid`, the clip's name, and `caption`."""
    for where, value in iter_list(file):
        with report.entry(where):
            cells = as_object(value)
            yield Annotation(
                video=parse_id(cells.get("vid"), "vid"), captions=(parse_text(cells.get("caption"), "caption"),)
            )


def read_condensed_movies(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read Condensed Movies: descriptions.csv (`videoid`, `description`, `imdbid`). Splits are of movies: split.csv
    beside it (`imdbid`, `split`), where it is, tells them."""
    beside = file.with_name("split.csv")
    splits = {}
    if beside.is_file():
        splits = {row["imdbid"]: row["split"] for _, row in iter_table(beside, report, "imdbid", "split")}
    for where, row in iter_table(file, report, "videoid", "description"):
        with report.entry(where):
            yield Annotation(
                video=parse_id(row["videoid"], "videoid"),
                captions=(parse_text(row["description"], "description"),),
                split=name_split(splits.get(row.get("imdbid", ""))),
                extra=keep_cells(row, "videoid", "description"),
            )
