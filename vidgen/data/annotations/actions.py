"""Classes of clips, spans and people: Kinetics, Something-Something v2, UCF101, HMDB51, Charades, AVA."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from vidgen.data.annotations.entries import as_list, as_object, iter_lines, iter_list, iter_table
from vidgen.data.annotations.record import (
    Annotation,
    Box,
    keep_cells,
    name_split,
    parse_id,
    parse_span,
    parse_text,
    split_in_name,
)
from vidgen.data.annotations.report import ReadReport, WrongLayout
from vidgen.errors import VidgenError

KEYFRAME_CONTEXT = 1.5  # seconds on each side of an AVA keyframe: segments of 3 s, one each second (Gu et al. 2018)
AVA_COLUMNS = ("video_id", "time", "x1", "y1", "x2", "y2", "action", "person")
UCF_LINE = re.compile(r"(?P<label>\w+)/(?P<name>v_\w+_g(?P<group>\d+)_c\d+)\.avi(?: (?P<number>\d+))?")
UCF_FILE = re.compile(r"(?:train|test)list(\d+)")
HMDB_LINE = re.compile(r"(?P<name>\S.*)\.avi (?P<part>[012])")
HMDB_FILE = re.compile(r"(?P<label>\w+)_test_split(?P<fold>\d+)")
HMDB_PARTS = {"0": "unused", "1": "train", "2": "test"}


def read_kinetics(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read Kinetics 400, 600 and 700: CSV with `youtube_id`, `time_start`, `time_end`, `split` and, but for tests,
    `label`. Clips are called ID_START_END, with six digits a time."""
    for where, row in iter_table(file, report, "youtube_id", "time_start", "time_end"):
        with report.entry(where):
            video = parse_id(row["youtube_id"], "youtube_id")
            start, end = parse_span(row["time_start"], row["time_end"])
            yield Annotation(
                video=video,
                clip=f"{video}_{int(start):06d}_{int(end):06d}",
                labels=(parse_text(row["label"], "label"),) if row.get("label") else (),
                start=start,
                end=end,
                split=name_split(row.get("split")) or split_in_name(file),
                extra=keep_cells(row, "youtube_id", "time_start", "time_end", "split", "label"),
            )


def read_something_something(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read Something-Something v2 (Goyal et al. 2017): a list of `id`, `label`, `template` and `placeholders`.

    The class is the template without its brackets, as the list of labels has it; the caption is `label`, the template
    with its placeholders filled in. The test has ids alone.
    """
    for where, value in iter_list(file):
        with report.entry(where):
            cells = as_object(value)
            is_labeled = "label" in cells or "template" in cells
            template = parse_text(cells.get("template"), "template") if is_labeled else ""
            things = [
                parse_text(thing, "placeholder") for thing in as_list(cells.get("placeholders", []), "placeholders")
            ]
            if is_labeled and template.count("[") != len(things):
                raise VidgenError(f"{len(things)} placeholders for the template {template[:60]!r}")
            if not is_labeled and not cells.keys() <= {"id"}:
                raise VidgenError("it has no label and no template")
            yield Annotation(
                video=parse_id(cells.get("id"), "id"),
                captions=(parse_text(cells.get("label"), "label"),) if is_labeled else (),
                labels=(template.replace("[", "").replace("]", ""),) if is_labeled else (),
                split=split_in_name(file),
                extra={"placeholders": things} if things else {},
            )


def read_ucf101(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read UCF101's splits: lines `CLASS/v_CLASS_gGG_cCC.avi N` of trainlist01.txt, without the number of testlist01.

    `group` tells clips of one source, which belong on one side of a split; `fold` is the file's number.
    """
    fold = UCF_FILE.match(file.stem)
    for where, line in iter_lines(file):
        with report.entry(where):
            match = UCF_LINE.fullmatch(line.strip())
            if match is None:
                raise VidgenError("not CLASS/v_CLASS_gGG_cCC.avi with or without a number")
            yield Annotation(
                video=f"{match['label']}/{match['name']}.avi",
                labels=(match["label"],),
                split=split_in_name(file),
                extra={"group": f"{match['label']}_g{match['group']}"} | ({"fold": fold[1]} if fold else {}),
            )


def read_hmdb51(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read HMDB51's splits: files CLASS_test_splitN.txt with lines `CLIP.avi N`, 1 for training, 2 for the test, 0 for
    neither (split "unused")."""
    name_parts = HMDB_FILE.fullmatch(file.stem)
    if name_parts is None:
        raise WrongLayout("its name, which tells the class, is not CLASS_test_splitN.txt")
    for where, line in iter_lines(file):
        with report.entry(where):
            match = HMDB_LINE.fullmatch(line.strip())
            if match is None:
                raise VidgenError("not CLIP.avi and 0, 1 or 2")
            yield Annotation(
                video=f"{name_parts['label']}/{match['name']}.avi",
                labels=(name_parts["label"],),
                split=HMDB_PARTS[match["part"]],
                extra={"fold": name_parts["fold"]},
            )


def read_charades(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read Charades (Sigurdsson et al. 2016): CSV with `id`, `script`, `descriptions`, `actions`, `objects`, `length`.

    A video is one annotation with its sentences and all its classes (`part` "video"), and one for each action (`part`
    "action"): `actions` is `CLASS START END` in seconds, between semicolons.
    """
    for where, row in iter_table(file, report, "id", "script", "actions", "length"):
        with report.entry(where):
            video = parse_id(row["id"], "id")
            split = split_in_name(file)
            actions = [action.split() for action in row["actions"].split(";") if action.strip()]
            sentences = [row["script"], *row.get("descriptions", "").split(";")]
            yield Annotation(
                video=video,
                captions=tuple(parse_text(text, "script") for text in sentences if text.strip()),
                labels=tuple(dict.fromkeys(action[0] for action in actions)),
                split=split,
                extra={"part": "video"} | keep_cells(row, "id", "script", "descriptions", "actions"),
            )
            for action in actions:
                with report.entry(where):
                    if len(action) != 3:
                        raise VidgenError(f"its action {' '.join(action)[:40]!r} is not CLASS START END")
                    start, end = parse_span(action[1], action[2], row["length"])
                    yield Annotation(
                        video=video, labels=(action[0],), start=start, end=end, split=split, extra={"part": "action"}
                    )


def read_ava(file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Read AVA (Gu et al. 2018): lines of video, time of a keyframe in seconds, a box as fractions of the frame, the
    number of an action, and of the person in versions that have it.

    Lines that follow each other on one keyframe are one annotation, 3 s around it.
    """
    rows = _ava_rows(file, report)
    for (video, time), group in groupby(rows, key=lambda row: (row[0], row[1].time)):
        boxes = tuple(box for _, box in group)
        yield Annotation(
            video=video,
            labels=tuple(dict.fromkeys(box.label for box in boxes)),
            start=max(0.0, time - KEYFRAME_CONTEXT),
            end=time + KEYFRAME_CONTEXT,
            boxes=boxes,
            split=split_in_name(file),
            extra={"keyframe": time},
        )


def _finite(cell: str, name: str) -> float:
    """Return a number that is not below 0. Raises VidgenError, by its name, for what is none."""
    try:
        number = float(cell)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise VidgenError(f"its {name} is {cell[:40]!r}, not a number from 0 on")
    return number


def _ava_rows(file: Path, report: ReadReport) -> Iterator[tuple[str, Box]]:
    for where, line in iter_lines(file):
        with report.entry(where):
            cells: list[Any] = [cell.strip() for cell in line.split(",")]
            if len(cells) not in (len(AVA_COLUMNS) - 1, len(AVA_COLUMNS)):
                raise VidgenError(f"{len(cells)} cells where {', '.join(AVA_COLUMNS)} belong")
            row = dict(zip(AVA_COLUMNS, cells, strict=False))
            if not row["action"].isdecimal():
                raise VidgenError(f"its action is {row['action'][:40]!r}, not a number")
            time, *corners = (_finite(row[name], name) for name in AVA_COLUMNS[1:6])
            x1, y1, x2, y2 = corners
            box = Box(time=time, x1=x1, y1=y1, x2=x2, y2=y2, label=row["action"], person=row.get("person"))
            yield parse_id(row["video_id"]), box
