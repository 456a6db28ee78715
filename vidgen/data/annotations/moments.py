"""Sentences on spans of videos: DiDeMo, Charades-STA, QVHighlights, MAD, LSMDC."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vidgen.data.annotations.entries import (
    as_list,
    as_object,
    as_pair,
    iter_json_lines,
    iter_lines,
    iter_list,
    iter_object,
)
from vidgen.data.annotations.record import (
    Annotation,
    SpanError,
    keep_cells,
    parse_id,
    parse_span,
    parse_text,
    split_in_name,
)
from vidgen.data.annotations.report import ReadReport
from vidgen.errors import VidgenError

CHUNK_SECONDS = 5  # of a DiDeMo video, which counts its spans in chunks of that length
STA_LINE = re.compile(r"(\S+) (\S+) (\S+) *##(.*)")
MOVIE_TIME = re.compile(r"(\d+)\.(\d\d)\.(\d\d)\.(\d{3})")  # hh.mm.ss.mmm
MOVIE_CLIP = re.compile(r"(?P<movie>.+)_\d\d\.\d\d\.\d\d\.\d{3}-\d\d\.\d\d\.\d\d\.\d{3}")


def read_didemo(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read DiDeMo (Hendricks et al. 2017): a list of `description`, `video`, `times` and `num_segments`.

    `times` has a pair of chunks of 5 s for each annotator, both inclusive: [1, 4] is 5 to 25 s. The span is the pair
    that most of them marked, the first one of several; all are in `times`, in seconds. The last chunk may go past the
    end of its video, whose length the file does not know.
    """
    for where, value in iter_list(file):
        with report.entry(where):
            cells = as_object(value)
            pairs = [_chunk_pair(pair, cells.get("num_segments")) for pair in as_list(cells.get("times"), "times")]
            if not pairs:
                raise SpanError("nobody marked its span")
            (start, end), _ = Counter(pairs).most_common(1)[0]
            yield Annotation(
                video=parse_id(cells.get("video")),
                captions=(parse_text(cells.get("description"), "description"),),
                start=start,
                end=end,
                split=split_in_name(file),
                extra={"times": pairs} | keep_cells(cells, "video", "description", "times", "dl_link"),
            )


def _chunk_pair(pair: Any, chunks: Any) -> tuple[float, float]:
    """Return the seconds of a pair of chunks, of which a video has so many."""
    both = as_list(pair, "pair of times")
    if len(both) != 2 or not all(type(chunk) is int for chunk in both):
        raise VidgenError(f"its times have {str(pair)[:40]}, not the numbers of two chunks")
    first, last = both
    if not 0 <= first <= last or (type(chunks) is int and last >= chunks):
        raise SpanError(f"its chunks {first} to {last} of {chunks} are reversed or outside")
    return float(first * CHUNK_SECONDS), float((last + 1) * CHUNK_SECONDS)


def read_charades_sta(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read Charades-STA (Gao et al. 2017): lines `VIDEO START END##sentence`, in seconds."""
    for where, line in iter_lines(file):
        with report.entry(where):
            match = STA_LINE.fullmatch(line.strip())
            if match is None:
                raise VidgenError("not VIDEO START END##sentence")
            start, end = parse_span(match[2], match[3])
            yield Annotation(
                video=match[1],
                captions=(parse_text(match[4], "sentence"),),
                start=start,
                end=end,
                split=split_in_name(file),
            )


def read_qvhighlights(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read QVHighlights (Lei et al. 2021), also as lighthouse has it: lines of JSON with `qid`, `query`, `vid`,
    `duration` and `relevant_windows`.

    Each window is an annotation; a query of the test set, which has none, is one of the whole video. Times count
    within the clip `vid`; `relevant_clip_ids` and `saliency_scores` are of clips of 2 s of it.
    """
    names = ("query", "vid", "relevant_windows")
    for where, cells in iter_json_lines(file, report):
        with report.entry(where):
            query = parse_text(cells.get("query"), "query")
            video = parse_id(cells.get("vid"), "vid")
            extra = keep_cells(cells, *names)
            windows = as_list(cells.get("relevant_windows", []), "relevant_windows")
            split = split_in_name(file)
            if not windows:
                yield Annotation(video=video, captions=(query,), split=split, extra=extra)
            for window in windows:
                with report.entry(where):
                    start, end = parse_span(*as_pair(window), cells.get("duration"))
                    yield Annotation(video=video, captions=(query,), start=start, end=end, split=split, extra=extra)


def read_mad(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read MAD (Soldan et al. 2022): an object of `movie`, `sentence`, `movie_duration`, and `timestamps` with their
    extended form `ext_timestamps`, by which its baselines go; they are the span where they are there."""
    for where, key, value in iter_object(file):
        with report.entry(where):
            cells = as_object(value)
            times = cells.get("ext_timestamps", cells.get("timestamps"))
            start, end = parse_span(*as_pair(times), cells.get("movie_duration"))
            yield Annotation(
                video=parse_id(cells.get("movie"), "movie"),
                captions=(parse_text(cells.get("sentence"), "sentence"),),
                start=start,
                end=end,
                split=split_in_name(file),
                extra={"id": key} | keep_cells(cells, "movie", "sentence", "ext_timestamps"),
            )


def read_lsmdc(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read LSMDC 2016: lines of clip, start and end as aligned, start and end as extracted, and sentence, between tabs.

    Times are hh.mm.ss.mmm of the movie. The span is what was extracted, the clip's own; the blind test has no
    sentences. Clips may be in several lines.
    """
    for where, line in iter_lines(file):
        with report.entry(where):
            cells = line.split("\t")
            match = MOVIE_CLIP.fullmatch(cells[0].strip())
            if match is None or not 5 <= len(cells) <= 7:
                raise VidgenError("not a clip, four times and a sentence between tabs")
            aligned_start, aligned_end, start, end = map(_movie_seconds, cells[1:5])
            if end <= start:
                raise SpanError(f"its span from {start:g} to {end:g} s is reversed")
            yield Annotation(
                video=match["movie"],
                clip=match[0],
                captions=(parse_text(cells[5], "sentence"),) if len(cells) > 5 else (),
                start=start,
                end=end,
                split=split_in_name(file),
                extra={"aligned_start": aligned_start, "aligned_end": aligned_end},
            )


def _movie_seconds(code: str) -> float:
    match = MOVIE_TIME.fullmatch(code.strip())
    if match is None:
        raise VidgenError(f"{code[:40]!r} is no time hh.mm.ss.mmm")
    hours, minutes, seconds, thousandths = map(int, match.groups())
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000
