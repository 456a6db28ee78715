"""Finding clips: folders, class folders, captions beside files, CSV or JSONL manifests, and tars of WebDataset."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from vidgen.data.images import IMAGE_SUFFIXES, numbered_frames
from vidgen.data.webdataset import is_tar, list_samples, open_bytes
from vidgen.errors import VidgenError

VIDEO_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".y4m", ".wmv", ".flv", ".ogv", ".3gp", ".vob", ".h264", ".hevc", ".mjpeg"),
}
MANIFEST_SUFFIXES = {".csv", ".jsonl"}
PATH_COLUMNS = ("path", "file_name", "video")
CAPTION_COLUMNS = ("caption", "text", "prompt")
_NUMBER_COLUMNS = ("fps", "start", "duration")


@dataclass(frozen=True, kw_only=True)
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


def find_clips(source: str | Path, *, frame_folders: bool = True) -> list[ClipRecord]:
    """Return all clips of `source`, in the order of their names, or of the manifest. Files are not opened.

    source: one file; a manifest (.csv, .jsonl); a .tar; or a folder, searched to any depth, hidden names left out. A
    folder with `metadata.csv` or `metadata.jsonl` holds what that lists, and one with tars what they hold. Otherwise:
    `x.txt` beside `x.mp4` is its caption; if every clip lies exactly one folder down, those folders are its labels; a
    folder of numbered images without captions is one clip (frame_folders False: as many images); any other image is a
    clip of one frame.

    A manifest has a column path, file_name or video (relative to the manifest), and may have caption, text or prompt,
    and label, fps, start and duration; every other column is kept in `extra`. Files it names need not exist: reading
    them says so. In a tar, `x.txt` is the caption of `x.mp4`, `x.cls` its label, and `x.json` (an object) a row of a
    manifest. Raises VidgenError for a source that is missing, empty or malformed.
    """
    source = Path(source)
    if not source.exists():
        raise VidgenError(f"{source}: no such file or folder; check the path")
    if source.is_file():
        if source.suffix.lower() in MANIFEST_SUFFIXES:
            return _unique(_read_manifest(source))
        if is_tar(source):
            return _filled(source, list(_read_tar(source)))
        return [ClipRecord(path=source, id=source.name, caption=_caption_beside(source))]
    for name in ("metadata.csv", "metadata.jsonl"):
        if (source / name).is_file():
            return _unique(_read_manifest(source / name))
    if tars := sorted(path for path in source.iterdir() if is_tar(path) and not path.name.startswith(".")):
        records = [replace(record, id=f"{tar.name}/{record.id}") for tar in tars for record in _read_tar(tar)]
        return _filled(source, records)
    if frame_folders and _is_frame_clip(source):
        return [ClipRecord(path=source, id=source.name, caption=_caption_beside(source))]
    paths = list(_walk(source, frame_folders))
    if not paths:
        raise VidgenError(f"{source}: no clips in this folder; it needs videos, images, or a metadata.csv or .jsonl")
    names = [path.relative_to(source) for path in paths]
    by_class = all(len(name.parts) == 2 for name in names)
    return [
        ClipRecord(
            path=path, id=name.as_posix(), caption=_caption_beside(path), label=name.parts[0] if by_class else None
        )
        for path, name in zip(paths, names, strict=True)
    ]


def _walk(folder: Path, frame_folders: bool) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if frame_folders and _is_frame_clip(path):
                yield path
            else:
                yield from _walk(path, frame_folders)
        elif path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            yield path


def _is_frame_clip(folder: Path) -> bool:
    """Return two numbered images or more, and no videos, folders or captions beside them."""
    others = any(
        path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES | {".txt"}
        for path in folder.iterdir()
        if not path.name.startswith(".")
    )
    return not others and len(numbered_frames(folder)) > 1


def _caption_beside(path: Path) -> str | None:
    text = path.with_suffix(".txt") if path.is_file() else path.with_name(f"{path.name}.txt")
    if text == path or not text.is_file():
        return None
    return " ".join(text.read_text("utf-8", "replace").split()) or None


def _read_manifest(manifest: Path) -> Iterator[ClipRecord]:
    count = 0
    for line, row in _rows(manifest):
        count += 1
        cells = {key: value for key, value in row.items() if key and value not in (None, "")}
        where = f"{manifest}, line {line}"
        name = _take(cells, PATH_COLUMNS)
        if name is None:
            columns = ", ".join(row) or "none"
            raise VidgenError(f"{where}: no {', '.join(PATH_COLUMNS)} in its columns ({columns}); name the clip's file")
        yield _record(manifest.parent / str(name), Path(str(name)).as_posix(), cells, where)
    if not count:
        raise VidgenError(f"{manifest}: lists no clips; it needs a row for each, with its path")


def _record(path: Path, id: str, cells: dict, where: str) -> ClipRecord:
    """Return the record of a row, `cells` being its columns but for the path."""
    numbers = {key: _number(cells.pop(key), key, where) for key in _NUMBER_COLUMNS if key in cells}
    return ClipRecord(
        path=path,
        id=id,
        caption=_text(_take(cells, CAPTION_COLUMNS)),
        label=_text(cells.pop("label", None)),
        extra={key: _text(value) for key, value in cells.items()},
        **numbers,
    )


def _read_tar(archive: Path) -> Iterator[ClipRecord]:
    """Yield the clips of an archive, each with what the other files of its sample say; see `list_samples`."""
    for _, files in list_samples(archive):
        labels = {suffix: name for suffix, name in files.items() if suffix in (".txt", ".cls", ".json")}
        for suffix, name in files.items():
            # no suffix stands for what a damaged archive lacks: opening it says so
            if suffix and Path(name).suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
                continue
            cells = {}
            if ".json" in labels:
                cells |= _read_object(archive / labels[".json"])
            for key, kind in (("caption", ".txt"), ("label", ".cls")):
                if kind in labels:
                    cells[key] = " ".join(_read_text(archive / labels[kind]).split())
            cells = {key: value for key, value in cells.items() if value not in (None, "")}
            yield _record(archive / name, name, cells, str(archive / name))


def _read_text(path: Path) -> str:
    with open_bytes(path) as file:
        return file.read().decode("utf-8", "replace")


def _read_object(path: Path) -> dict:
    try:
        value = json.loads(_read_text(path))
    except ValueError as error:
        raise VidgenError(f"{path}: not JSON ({error}); it needs one object") from error
    if not isinstance(value, dict):
        raise VidgenError(f"{path}: {type(value).__name__}, not an object")
    return value


def _filled(source: Path, records: list[ClipRecord]) -> list[ClipRecord]:
    if not records:
        raise VidgenError(f"{source}: no clips in its tars; they need videos or images, such as 00001.mp4")
    return records


def _rows(manifest: Path) -> Iterator[tuple[int, dict]]:
    """Yield (line number, row) of a CSV or JSONL file."""
    with manifest.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if manifest.suffix.lower() == ".csv":
            reader = csv.DictReader(file)
            try:
                for row in reader:
                    yield reader.line_num, row
            except csv.Error as error:
                raise VidgenError(f"{manifest}, line {reader.line_num}: {error}; save it as plain CSV") from error
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise VidgenError(f"{manifest}, line {number}: not JSON ({error}); one object a line") from error
            if not isinstance(row, dict):
                raise VidgenError(f"{manifest}, line {number}: {type(row).__name__}, not an object; one object a line")
            yield number, row


def _take(cells: dict, names: tuple[str, ...]) -> object:
    name = next((name for name in names if name in cells), None)
    return None if name is None else cells.pop(name)


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: object, name: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not (0 < number < 1e9 or (name == "start" and number == 0)):
        raise VidgenError(f"{where}: {name} is {value!r}; give a positive number")
    return number


def _unique(records: Iterator[ClipRecord]) -> list[ClipRecord]:
    """Return the records with ids that are unique: several windows of one file get name, name#2, name#3."""
    counts: Counter[str] = Counter()
    result = []
    for record in records:
        counts[record.id] += 1
        number = counts[record.id]
        result.append(record if number == 1 else replace(record, id=f"{record.id}#{number}"))
    return result
