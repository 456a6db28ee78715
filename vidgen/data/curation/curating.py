"""A manifest of the clips of a data set with columns of their quality, without those that filters drop."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen.data.curation.duplicates import MAX_DISTANCE, cluster_duplicates
from vidgen.data.curation.filters import Filters
from vidgen.data.curation.quality import ClipQuality, measure_quality
from vidgen.data.curation.scene_cuts import has_scenedetect, load_scenedetect
from vidgen.data.manifests import ClipRecord, find_clips
from vidgen.errors import VideoError, VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.json_lines import json_line

NAMED_DROPS = 20


@dataclass
class CurationReport:
    """What came of it: clips looked at, rows `kept`, clips `dropped` for each reason (the first that holds), how many
    are nearly the same as one before, whether cuts were counted, and the first drops: id, reason."""

    clips: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    has_cuts: bool = False
    drops: list[dict[str, str]] = field(default_factory=list)


def curate_clips(
    source: Path,
    output: Path,
    filters: Filters,
    *,
    fps: float = 8.0,
    max_distance: float = MAX_DISTANCE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CurationReport:
    """Write a manifest (JSON lines) of the clips of `source` that pass, all or nothing, and return what came of it.

    Every row keeps its columns and gets those of `ClipQuality`, and `duplicate_of`, the id of the first clip that
    it is nearly the same as, its own for none. Files that cannot be read, or are damaged, are counted and named, and
    the rest goes on. Raises VidgenError where no clip is left, or where cuts are asked for and PySceneDetect is
    missing; WriteError.

    Args:
        fps: Frames a second that are looked at; motion is between these.
        max_distance: Share of the bits of hashes in which near-duplicates may differ.
        progress: Told how many clips are done, and of how many.
    """
    if filters.single_scene:
        load_scenedetect()
    report = CurationReport(has_cuts=has_scenedetect())
    records = find_clips(source)
    report.clips = len(records)
    measured: list[tuple[ClipRecord, ClipQuality]] = []
    reasons: Counter[str] = Counter()

    def drop(record: ClipRecord, name: str, reason: str) -> None:
        reasons[name] += 1
        if len(report.drops) < NAMED_DROPS:
            report.drops.append({"id": record.id, "reason": reason})

    for number, record in enumerate(records, 1):
        try:
            measured.append((record, measure_quality(record, fps=fps, count_cuts=report.has_cuts)))
        except VideoError as error:
            drop(record, "unreadable", str(error))
        progress(number, len(records))
    firsts = cluster_duplicates([quality.hashes for _, quality in measured], max_distance)
    report.duplicates = sum(int(first) != number for number, first in enumerate(firsts))
    kept_clusters: set[int] = set()
    with atomic_write(output) as target, target.open("w", encoding="utf-8") as manifest:
        for (record, quality), first in zip(measured, firsts.tolist(), strict=True):
            failed = filters.reasons(quality)
            if not failed and filters.drop_duplicates and first in kept_clusters:
                failed = ["drop_duplicates"]
            original = measured[first][0].id
            if failed:
                drop(record, failed[0], _explain(failed[0], quality, original))
                continue
            kept_clusters.add(first)
            row = describe_record(record, output.parent) | quality.columns() | {"duplicate_of": original}
            manifest.write(json_line(row))
            report.kept += 1
        report.dropped = dict(reasons)
        if not report.kept:
            counts = ", ".join(f"{name} {count}" for name, count in reasons.items())
            raise VidgenError(f"{source}: none of {report.clips} clips is left ({counts}); filter less")
    return report


def describe_record(record: ClipRecord, home: Path) -> dict[str, Any]:
    """Return the row of a manifest in the folder `home` that a record is read from; blank cells are left out."""
    path, base = Path(os.path.abspath(record.path)), Path(os.path.abspath(home))
    place = path.relative_to(base) if base in path.parents else path
    row = {
        "path": place.as_posix(),
        "caption": record.caption,
        "label": record.label,
        "fps": record.fps,
        "start": record.start or None,
        "duration": record.duration,
    }
    return record.extra | {name: value for name, value in row.items() if value is not None}


def _explain(name: str, quality: ClipQuality, original: str) -> str:
    if name == "drop_duplicates":
        return f"nearly the same as {original}, or as another of its cluster"
    if name == "single_scene":
        return f"single_scene: {quality.cuts} cuts"
    column = name.split("_", 1)[1]
    return f"{name}: {column} {getattr(quality, column):.4g}"
