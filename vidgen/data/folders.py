"""What lies in a folder of clips: each real file once, links followed and loops ended, captions beside their clips."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from vidgen.data.images import IMAGE_SUFFIXES, numbered_frames
from vidgen.data.manifest_rows import CLIP_LIST, PROMPT_LISTS
from vidgen.data.text_files import read_text
from vidgen.errors import VidgenError

VIDEO_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".m2ts", ".mts"),
    *(".y4m", ".wmv", ".flv", ".ogv", ".3gp", ".vob", ".h264", ".hevc", ".mjpeg"),
}
CLIP_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
CAPTION_SUFFIXES = (".txt", ".caption")  # in any case
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
# Names of folders, or values of a column `split`, and the split that they mean.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def find_manifest(folder: Path) -> Path | None:
    """Return the file that lists a folder's clips: metadata.csv, .jsonl or .parquet, or videos.txt with captions."""
    for name in METADATA:
        if (folder / name).is_file():
            return folder / name
    has_prompts = any((folder / name).is_file() for name in PROMPT_LISTS)
    return folder / CLIP_LIST if has_prompts and (folder / CLIP_LIST).is_file() else None


def caption_beside(path: Path) -> str | None:
    """Return the text of `x.txt` beside `x.mp4`, or of `frames.txt` beside the folder `frames`, on one line."""
    stem = path.name if path.is_dir() else path.stem
    names = _names_in(str(path.parent), path.parent.stat().st_mtime_ns)
    for suffix in CAPTION_SUFFIXES:
        for name in names.get(stem + suffix, ()):
            text = path.with_name(name)
            if text != path and text.is_file():
                return " ".join(read_text(text).split()) or None
    return None


@lru_cache(maxsize=8)
def _names_in(folder: str, changed: int) -> dict[str, list[str]]:
    """Return the names of possible captions in a folder by what they are called with a suffix of small letters."""
    names: dict[str, list[str]] = {}
    for name in sorted(os.listdir(folder), reverse=True):  # small letters first
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in CAPTION_SUFFIXES:
            names.setdefault(stem + suffix.lower(), []).append(name)
    return names


def is_frame_clip(folder: Path) -> bool:
    """Return whether a folder holds two numbered images or more, and no videos, folders or captions beside them."""
    others = any(
        path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES | set(CAPTION_SUFFIXES)
        for path in folder.iterdir()
        if not path.name.startswith(".")
    )
    return not others and len(numbered_frames(folder)) > 1


@dataclass(kw_only=True)
class FolderWalk:
    """A search of a folder to any depth, hidden names left out; a folder with a manifest holds what that lists.

    What lies in the folder itself comes before what links lead to, and nothing comes twice: a link to a file or folder
    that was seen already is passed over.
    """

    frame_folders: bool
    clips: list[Path] = field(default_factory=list)
    manifests: list[Path] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)  # real paths
    _links: list[str] = field(default_factory=list)

    def search(self, folder: Path) -> None:
        """Fill `clips` and `manifests`, in the order of their names. Raises VidgenError for what cannot be listed."""
        self._enter(str(folder), os.path.realpath(folder))
        while self._links:
            link = self._links.pop(0)
            self._take(link, os.path.realpath(link), os.path.isdir(link))
        self.clips.sort()
        self.manifests.sort()

    def _enter(self, folder: str, real: str) -> None:
        """Take what is in a folder; `real` is its path without links."""
        if real in self._seen:
            return
        self._seen.add(real)
        if manifest := find_manifest(Path(folder)):
            self.manifests.append(manifest)
            return
        for entry in self._entries(folder):
            if entry.is_symlink():
                self._links.append(entry.path)
            else:
                self._take(entry.path, os.path.join(real, entry.name), entry.is_dir(follow_symlinks=False))

    def _entries(self, folder: str) -> Iterator[os.DirEntry]:
        try:
            with os.scandir(folder) as entries:
                yield from sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
        except OSError as error:
            raise VidgenError(f"{folder}: cannot be listed: {error.strerror}; check its permissions") from None

    def _take(self, path: str, real: str, is_folder: bool) -> None:
        is_clip = is_folder and self.frame_folders and is_frame_clip(Path(path))
        if is_folder and not is_clip:
            self._enter(path, real)
        elif (is_clip or os.path.splitext(path)[1].lower() in CLIP_SUFFIXES) and real not in self._seen:
            self._seen.add(real)
            self.clips.append(Path(path))
