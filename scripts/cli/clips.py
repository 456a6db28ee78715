"""Clips named on the command line: which part of them, their frames one by one, and where results of each go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vidgen.errors import VideoError, VidgenError
from vidgen.scripts.cli.options import (
    Fit,
    FitOption,
    FpsOption,
    LengthOption,
    SecondsOption,
    SizeOption,
    parse_size,
)
from vidgen.scripts.cli.outputs import check_folder_output, check_output, check_sources, lock_output

if TYPE_CHECKING:
    import numpy as np

    from vidgen.data.damage import Damage
    from vidgen.data.manifests import ClipRecord

MAX_FPS = 1000.0  # the most that a written file can have


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which part of a clip is read, at which size (height, width) and rate."""

    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    num_frames: int | None = None
    fps: float | None = None
    max_seconds: float | None = None
    allow_damaged: bool = False


@dataclass(frozen=True, kw_only=True)
class CutOptions:
    """Which part of a clip is read, as it was typed."""

    size: SizeOption = None
    fit: FitOption = "crop"
    num_frames: LengthOption = None
    fps: FpsOption = None
    max_seconds: SecondsOption = None

    def read(self, *, allow_damaged: bool = False) -> Cut:
        """Return the part of a clip. Raises VidgenError for one that holds nothing, and for what is no size or rate."""
        size = parse_size(self.size)
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise VidgenError(f"--max-seconds {self.max_seconds:g} leaves nothing; give more than 0")
        return Cut(**asdict(self) | {"size": size}, allow_damaged=allow_damaged)


@dataclass(kw_only=True)
class OpenedClip:
    """Frames of one clip as they are decoded.

    `first_size` is the (height, width) of frames that the file says it has; `count` and `size` are the number of frames
    so far and theirs; `problems` says what is wrong with it.
    """

    path: Path
    fps: float
    expected: int | None
    frames: Iterator[np.ndarray]
    damage: Damage
    first_size: tuple[int, int]
    count: int = 0
    size: tuple[int, int] = (0, 0)
    problems: list[str] = field(default_factory=list)

    def counted(self, advance: Callable[[int], None] = lambda done: None) -> Iterator[np.ndarray]:
        """Yield the frames, and call `advance` with their count. VideoError where they break off."""
        for frame in self.frames:
            self.count += 1
            self.size = frame.shape[:2]
            advance(self.count)
            yield frame
        if self.damage:
            self.problems.append(f"{self.path}: damaged: {self.count} frames read: {self.damage}")


def open_frames(path: Path, cut: Cut, record: ClipRecord | None = None) -> OpenedClip:
    """Open a clip, or the part of it that a manifest's record names. Raises VideoError if it is none."""
    from vidgen.data.damage import Damage
    from vidgen.data.reading import iter_frames, probe_video

    start = record.start if record else 0.0
    duration = record.duration if record else None
    native = record.fps if record else None
    info = probe_video(path, native or cut.fps, allow_damaged=cut.allow_damaged)
    if cut.max_seconds is not None:
        duration = cut.max_seconds if duration is None else min(duration, cut.max_seconds)
    damage = Damage()
    timed = iter_frames(
        path,
        start=start,
        duration=duration,
        fps=cut.fps,
        size=cut.size,
        fit=cut.fit,
        native_fps=native,
        allow_damaged=cut.allow_damaged,
        damage=damage,
    )
    fps = min(cut.fps or info.fps, MAX_FPS)
    expected = round((duration if duration is not None else info.duration) * fps) or None
    if cut.num_frames is not None:
        expected = cut.num_frames if expected is None else min(expected, cut.num_frames)
    frames = (frame for _, frame in islice(timed, cut.num_frames))
    first = cut.size or (info.height, info.width)
    return OpenedClip(path=path, fps=fps, expected=expected, frames=frames, damage=damage, first_size=first)


@dataclass(frozen=True, kw_only=True)
class ClipJob:
    """One clip of a source and the file that its result goes to, if any."""

    record: ClipRecord
    output: Path | None


def default_output(path: Path, suffix: str) -> Path:
    """Return NAME + `suffix` in the current folder, or NAME_2 + `suffix` if that is taken, locked for the verb."""
    stem = path.stem.removesuffix(".latents")
    tries = 1
    target = Path(stem + suffix)
    while target.exists():
        tries += 1
        target = Path(f"{stem}_{tries}{suffix}")
    lock_output(target)
    return target


def find_records(source: Path) -> tuple[list[ClipRecord], bool]:
    """Return the clips of a file, tar, folder or manifest, and whether the source is more than one clip."""
    from vidgen.data.manifests import MANIFEST_SUFFIXES, find_clips

    if not source.exists():
        raise VideoError(f"{source}: no such file or folder; check the path")
    records = find_clips(source)
    if source.is_file() and source.suffix.lower() not in MANIFEST_SUFFIXES:
        return records, len(records) > 1  # of a tar
    return records, [record.path for record in records] != [source]


def check_folder(source: Path, output: Path | None) -> None:
    """Raise VidgenError now unless the results of the many clips of `source` can go into the folder `output`."""
    if output is None:
        raise VidgenError(f"{source}: holds many clips, whose results need a folder; name it with -o")
    check_folder_output(output)


def list_jobs(source: Path, output: Path | None) -> tuple[list[ClipJob], bool]:
    """Return the clips of a file, folder or manifest with an output each, and whether the source is more than one clip.

    A folder's results go into the folder `output`, made if need be, under the clips' own names as .mp4.
    """
    records, many = find_records(source)
    if output is None:
        return [ClipJob(record=record, output=None) for record in records], many
    if not many:
        check_output(output, folder=output.suffix == "")
        return [ClipJob(record=records[0], output=output)], False
    check_folder(source, output)
    paths = output_paths(records, output)
    check_sources(paths, [record.path for record in records])
    return [ClipJob(record=record, output=path) for record, path in zip(records, paths, strict=True)], True


def output_paths(records: list[ClipRecord], folder: Path) -> list[Path]:
    """Return a path in `folder` for every record: its id with .mp4; the old suffix stays where two would collide."""
    names = [Path(record.id.replace("#", "-")) for record in records]
    safe = [Path(*[part for part in name.parts if part not in ("..", "/")]) for name in names]
    short = [name.with_suffix(".mp4") for name in safe]
    return [
        folder / (s if short.count(s) == 1 else name.with_name(f"{name.name}.mp4"))
        for s, name in zip(short, safe, strict=True)
    ]
