"""Finding clips: folders, class folders, captions beside files, manifests in several formats, tars of WebDataset."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from vidgen.data.folders import (
    CLIP_SUFFIXES,
    METADATA,
    SPLITS,
    FolderWalk,
    caption_beside,
    find_manifest,
    is_frame_clip,
)
from vidgen.data.manifest_rows import MANIFEST_SUFFIXES, as_text, parse_number, read_rows, sort_cells
from vidgen.data.text_files import read_text, readable
from vidgen.data.webdataset import is_tar, list_samples
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import load_shape


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRecord:
    """One clip of a data set. id is unique in its source: the path below it. start and duration, in seconds, are the
    part of the file that counts (None: to its end); fps is the rate of a folder of frames, which cannot say it."""

    path: Path
    id: str
    caption: str | None = None
    label: str | None = None
    fps: float | None = None
    start: float = 0.0
    duration: float | None = None
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def split(self) -> str | None:
        """The split that it belongs to: "train", "validation", "test", or as its column names it; None for none."""
        name = self.extra.get("split")
        return None if name is None else SPLITS.get(name.strip().lower(), name)


_SLOTS = {name: getattr(ClipRecord, name).__set__ for name in ClipRecord.__slots__}
_PATH, _ID, _CAPTION, _LABEL, _FPS, _START, _DURATION, _EXTRA = _SLOTS.values()


def _make_record(path, id, caption, label, fps, start, duration, extra) -> ClipRecord:
    """Return what `ClipRecord` does, a frozen class, whose constructor takes three times as long to look its fields up
    by name."""
    record = object.__new__(ClipRecord)
    _PATH(record, path)
    _ID(record, id)
    _CAPTION(record, caption)
    _LABEL(record, label)
    _FPS(record, fps)
    _START(record, start)
    _DURATION(record, duration)
    _EXTRA(record, extra)
    return record


def find_clips(source: str | Path, *, frame_folders: bool = True) -> list[ClipRecord]:
    """Return all clips of `source`, in the order of their names, or of the manifest. Files are not opened.

    source: one file; a manifest (.csv, .tsv, .jsonl, .json, .parquet, or .txt with a path a line); a .tar; or a folder,
    searched to any depth, hidden names left out, links followed, each real file once. A folder with `metadata.csv`,
    `.jsonl` or `.parquet`, or with `videos.txt` and `prompts.txt`, holds what that lists, at any depth, and one with
    tars what they hold. Otherwise: `x.txt` beside `x.mp4` is its caption; if every clip lies exactly one folder down,
    those folders are its labels; a folder of numbered images without captions is one clip (frame_folders False: as many
    images); any other image is a clip of one frame. If all clips lie in folders named train, validation (val, valid,
    dev) or test, these are their splits (`extra["split"]`), and labels are the folders below.

    A manifest has a column path, file_name or video (relative to the manifest), and may have caption, text or prompt,
    and label, fps, start, and duration or end; every other column is kept in `extra`. Files it names need not exist:
    reading them says so. In a tar, `x.txt` is the caption of `x.mp4`, `x.cls` its label, and `x.json` (an object) a row
    of a manifest. Raises VidgenError for a source that is missing, empty or malformed.
    """
    source = Path(source)
    if not os.path.lexists(source):
        raise VidgenError(f"{source}: no such file or folder; check the path")
    names = UniqueNames()
    if source.is_dir():
        return _read_folder(source, frame_folders, names)
    if source.suffix.lower() in MANIFEST_SUFFIXES and source.is_file():
        return list(_read_manifest(source, names))
    if is_tar(source):
        return _filled(source, list(_read_tar(source, names)))
    return [ClipRecord(path=source, id=readable(source.name), caption=caption_beside(source))]


class UniqueNames:
    """Ids as they are given out, none twice: several windows of one file get name, name#2, name#3."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}  # ids that are taken, and the number to try for the next one of that name

    def take(self, name: str) -> str:
        """Return the name, or the next one with a number behind it that is free."""
        number = self._next.get(name)
        if number is None:
            self._next[name] = 2
            return name
        while (free := f"{name}#{number}") in self._next:
            number += 1
        self._next[name] = number + 1
        self._next[free] = 2
        return free


def _read_folder(source: Path, frame_folders: bool, names: UniqueNames) -> list[ClipRecord]:
    if manifest := find_manifest(source):
        return _with_splits(list(_read_manifest(manifest, names)), labeled=False)
    if tars := sorted(path for path in source.iterdir() if is_tar(path) and not path.name.startswith(".")):
        records = [record for tar in tars for record in _read_tar(tar, names, f"{readable(tar.name)}/")]
        return _filled(source, records)
    if frame_folders and is_frame_clip(source):
        return [ClipRecord(path=source, id=readable(source.name), caption=caption_beside(source))]
    walk = FolderWalk(frame_folders=frame_folders)
    walk.search(source)
    records = [
        ClipRecord(
            path=path, id=names.take(readable(path.relative_to(source).as_posix())), caption=caption_beside(path)
        )
        for path in walk.clips
    ]
    for manifest in walk.manifests:
        below = readable(manifest.parent.relative_to(source).as_posix())
        records += _read_manifest(manifest, names, f"{below}/")
    if not records:
        raise VidgenError(f"{source}: no clips in this folder; it needs videos, images, or a {', '.join(METADATA)}")
    return _with_splits(records, labeled=not walk.manifests)


def _with_splits(records: list[ClipRecord], *, labeled: bool) -> list[ClipRecord]:
    """Return records with what their folders say: splits, and `labeled` also labels, where all of them agree."""
    folders = [record.id.split("/")[:-1] for record in records]
    if all(names and names[0].lower() in SPLITS for names in folders):
        records = [
            record if record.split else replace(record, extra=record.extra | {"split": SPLITS[names[0].lower()]})
            for record, names in zip(records, folders, strict=True)
        ]
        folders = [names[1:] for names in folders]
    if labeled and all(len(names) == 1 for names in folders):
        records = [replace(record, label=names[0]) for record, names in zip(records, folders, strict=True)]
    return records


def _read_manifest(manifest: Path, names: UniqueNames, below: str = "") -> Iterator[ClipRecord]:
    folder = str(manifest.parent)
    parent = lru_cache(maxsize=2**12)(lambda name: Path(os.path.join(folder, name)))

    @lru_cache(maxsize=2**16)  # many rows may be of one file
    def locate(name: str) -> tuple[Path, str]:
        above, _, last = name.rpartition("/")
        path = parent(above) / last if len(above) > 1 else parent(name)  # quicker than to take all of it apart
        if not name.isascii() and readable(name) != name and not path.exists():
            path = parent(readable(name))  # the list was not written in UTF-8, and the file's name is
        return path, below + _id_of(name)

    count = 0
    for where, parts, others in read_rows(manifest):
        count += 1
        path, id = locate(parts.pop("path"))
        yield _record(path, names.take(id), parts, others, where)
    if not count:
        raise VidgenError(f"{manifest}: lists no clips; it needs a row for each, with its path")


def _id_of(name: str) -> str:
    """Return the id of a row's path, as pathlib writes it."""
    plain = readable(name)
    tidy = "." not in plain[:1] and plain[0] != "/" and "//" not in plain and "/." not in plain and plain[-1] != "/"
    return plain if tidy else Path(plain).as_posix()


def _record(path: Path, id: str, parts: dict, others: dict, where: object) -> ClipRecord:
    """Return the record of a row: `parts` is what is known of it but for its path, `others` goes to `extra`."""
    fps = parse_number(parts["fps"], "fps", where) if "fps" in parts else None
    start = parse_number(parts["start"], "start", where) if "start" in parts else 0.0
    duration = parse_number(parts["duration"], "duration", where) if "duration" in parts else None
    if "end" in parts:
        length = parse_number(parts["end"], "end", where) - start
        if length <= 0 or (duration is not None and abs(length - duration) > 0.01):
            stated = "" if duration is None else f" for {duration:g} s"
            raise VidgenError(
                f"{where}: it ends at {as_text(parts['end'])} s, and starts at {start:g} s{stated}; make them agree"
            )
        duration = length if duration is None else duration
    extra = {readable(key): as_text(value) for key, value in others.items()} if others else {}
    return _make_record(
        path, id, as_text(parts.get("caption")), as_text(parts.get("label")), fps, start, duration, extra
    )


def _read_tar(archive: Path, names: UniqueNames, below: str = "") -> Iterator[ClipRecord]:
    """Yield the clips of an archive, each with what the other files of its sample say; see `list_samples`."""
    for _, files in list_samples(archive):
        labels = {suffix: name for suffix, name in files.items() if suffix in (".txt", ".cls", ".json")}
        for suffix, name in files.items():
            # no suffix stands for what a damaged archive lacks: opening it says so
            if suffix and Path(name).suffix.lower() not in CLIP_SUFFIXES:
                continue
            described = archive / labels.get(".json", "")
            cells = load_shape(read_text(described), dict, described) if ".json" in labels else {}
            for key, kind in (("caption", ".txt"), ("label", ".cls")):
                if kind in labels:
                    cells[key] = " ".join(read_text(archive / labels[kind]).split())
            parts, others = sort_cells(cells)
            parts.pop("path", None)
            yield _record(archive / name, names.take(below + readable(name)), parts, others, archive / name)


def _filled(source: Path, records: list[ClipRecord]) -> list[ClipRecord]:
    if not records:
        raise VidgenError(f"{source}: no clips in its tars; they need videos or images, such as 00001.mp4")
    return records
