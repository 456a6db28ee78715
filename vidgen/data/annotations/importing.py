"""Manifests made of annotations: videos found in a folder by their names, and a row for each annotation of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from vidgen.data.annotations.record import Annotation, name_split
from vidgen.data.annotations.registry import find_layout, read_annotations
from vidgen.data.annotations.report import NAMED_SKIPS, ReadReport
from vidgen.data.folders import VIDEO_SUFFIXES
from vidgen.data.manifest_rows import PARTS
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.json_lines import json_line

GUESSED_SUFFIX = ".mp4"  # of a video that is named without one, and not looked for


@dataclass
class ImportReport:
    """What came of an import: `annotations` that were read, `rows` that were written of them, of so many `videos`;
    `missing_rows` whose videos are not there, `other_splits` that were not asked for, and `skipped` entries."""

    annotations: int = 0
    rows: int = 0
    videos: int = 0
    missing_rows: int = 0
    missing_videos: int = 0
    missing: list[str] = field(default_factory=list)  # the first names
    other_splits: int = 0
    skipped: int = 0
    bad_spans: int = 0
    skips: list[dict[str, str]] = field(default_factory=list)  # the first ones: file, where, reason


class VideoFolder:
    """Video files below a folder, to be found by name with or without a suffix, or by path below it."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise VidgenError(f"{folder}: no such folder; name the one with the videos")
        self._paths: dict[str, Path] = {}
        for above, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() not in VIDEO_SUFFIXES or name.startswith("."):
                    continue
                path = Path(above, name)
                below = path.relative_to(folder).as_posix()
                for key in (below, below[: -len(suffix)], name, stem):
                    self._paths.setdefault(key, path)
        if not self._paths:
            raise VidgenError(f"{folder}: no videos in it; name the folder with the videos")

    def find(self, name: str) -> Path | None:
        """Return the file of that name, whatever its suffix; None for none."""
        plain = strip_suffix(name)
        keys = (name, plain, PurePath(plain).name)
        return next((self._paths[key] for key in keys if key in self._paths), None)


def strip_suffix(name: str) -> str:
    """Return a name without the suffix of a video; other dots, as of times, are part of it."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


def import_annotations(
    layout: str,
    files: Sequence[Path],
    output: Path,
    *,
    videos: Path | None = None,
    split: str | None = None,
    every_caption: bool = False,
) -> ImportReport:
    """Write a manifest of the annotations of files, all or nothing, and return what came of them.

    Args:
        layout: A name of `LAYOUTS`.
        files: Annotations in that layout.
        output: The manifest, JSON lines with `path`, `caption`, `label`, `start` and `end` in seconds, `split`,
            `video`, `captions`, `labels` and `boxes` where there are several, and what else the layout knows.
        videos: The folder with the videos, at any depth; annotations of others are counted and left out. None: paths
            are names, beside the manifest, and nothing is looked for.
        split: Only what is of this split, and what is of none, which counts as of it. None: all of them.
        every_caption: Whether each caption has a row of its own; else the first one stands for them.

    Raises VidgenError for an unknown layout, a file of another one, and where no row comes of it; WriteError.
    """
    find_layout(layout)
    report = ImportReport()
    folder = None if videos is None else VideoFolder(videos)
    split_name = name_split(split)
    paths: set[str] = set()
    missing: set[str] = set()
    with atomic_write(output) as target, target.open("w", encoding="utf-8") as manifest:
        for annotation in _read_files(layout, files, report):
            if split_name is not None and annotation.split not in (None, split_name):
                report.other_splits += 1
                continue
            place = _locate(annotation, folder, output.parent)
            if place is None:
                report.missing_rows += 1
                missing.add(annotation.clip or annotation.video)
                continue
            path, is_cut = place
            paths.add(path)
            for row in _rows(replace(annotation, split=annotation.split or split_name), path, is_cut, every_caption):
                manifest.write(json_line(row))
                report.rows += 1
        report.videos = len(paths)
        report.missing_videos = len(missing)
        report.missing = sorted(missing)[:NAMED_SKIPS]
        if not report.rows:
            raise VidgenError(_explain_none(report, files, videos, split_name))
    return report


def _read_files(layout: str, files: Sequence[Path], report: ImportReport) -> Iterator[Annotation]:
    """Yield the annotations of files one after the other, and add up what was passed over."""
    for file in files:
        own = ReadReport()
        yield from read_annotations(layout, file, own)
        report.annotations += own.read
        report.skipped += own.skipped
        report.bad_spans += own.bad_spans
        places = [{"file": str(file), "where": where, "reason": reason} for where, reason in own.skips]
        report.skips += places[: NAMED_SKIPS - len(report.skips)]


def _locate(annotation: Annotation, folder: VideoFolder | None, home: Path) -> tuple[str, bool] | None:
    """Return (path for the manifest, whether that file is just the span); None where the video is not there.

    home: the manifest's folder, which paths count from.
    """
    if folder is None:
        name = annotation.clip or annotation.video
        path = name if strip_suffix(name) != name else name + GUESSED_SUFFIX
        return path, annotation.clip is not None
    for name, is_cut in ((annotation.clip, True), *((name, False) for name in (annotation.video, *annotation.aliases))):
        file = folder.find(name) if name else None
        if file is not None:
            real, base = Path(os.path.abspath(file)), Path(os.path.abspath(home))
            return (real.relative_to(base) if base in real.parents else real).as_posix(), is_cut
    return None


def _rows(annotation: Annotation, path: str, is_cut: bool, every_caption: bool) -> Iterator[dict[str, Any]]:
    """Yield the rows of an annotation; a clip that was cut out has its span's times in the source as `source_...`."""
    row: dict[str, Any] = {"path": path}
    prefix = "source_" if is_cut else ""
    known = {
        "label": annotation.labels[0] if annotation.labels else None,
        f"{prefix}start": annotation.start,
        f"{prefix}end": annotation.end,
        "split": annotation.split,
        "video_id": annotation.video,
        "captions": list(annotation.captions) if len(annotation.captions) > 1 and not every_caption else None,
        "labels": list(annotation.labels) if len(annotation.labels) > 1 else None,
        "boxes": [asdict(box) for box in annotation.boxes] or None,
    }
    row |= {name: value for name, value in known.items() if value is not None}
    keywords = {*PARTS, *known}  # what a manifest gives a meaning of its own
    row |= {f"video_{name}" if name.lower() in keywords else name: value for name, value in annotation.extra.items()}
    captions = annotation.captions if every_caption else annotation.captions[:1]
    for caption in captions or (None,):
        yield row if caption is None else {"path": path, "caption": caption} | row


def _explain_none(report: ImportReport, files: Sequence[Path], videos: Path | None, split: str | None) -> str:
    """Return why no row was written."""
    names = ", ".join(map(str, files[:3]))
    if report.missing_rows:
        first = report.missing[0]
        return (
            f"{videos}: none of the {report.missing_videos} videos of {names} is there, such as {first}; name another"
        )
    return f"{names}: no annotations of split {split!r}; choose another, or leave --split out"
