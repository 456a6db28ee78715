"""Files that are read whole: regular ones alone, no larger than their kind is, with JSON that can be written again."""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from vidgen.errors import VidgenError

CONFIG_BYTES = 10 * 2**20
CAPTION_BYTES = 2**20
TABLE_BYTES = 2**30  # of lists with a line for each clip
Shape = TypeVar("Shape", dict, list)
DEEPEST = 64  # levels of JSON; more end in recursion somewhere behind us
SURROGATE = re.compile("[\ud800-\udfff]")
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def check_regular(path: str | os.PathLike) -> int:
    """Return the bytes of a regular file. Raises VidgenError for what is none, which could wait or go on for ever, and
    OSError where nothing is."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "no file")
        raise VidgenError(f"{os.fspath(path)} is {kind}, and a regular file is wanted; put one there")
    return status.st_size


def read_bytes(path: str | os.PathLike, most: int = CONFIG_BYTES) -> bytes:
    """Return what is in a regular file of `most` bytes at most. Raises VidgenError for another, OSError for none."""
    check_regular(path)
    with open(path, "rb") as file:
        data = file.read(most + 1)
    check_length(path, len(data), most)
    return data


def read_text(path: str | os.PathLike, most: int = CONFIG_BYTES, *, errors: str = "strict") -> str:
    """Return the UTF-8 text in a file, without a byte order mark, its line ends as "\\n". Raises as `read_bytes`, and
    UnicodeDecodeError."""
    text = read_bytes(path, most).decode("utf-8-sig", errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_length(where: str | os.PathLike, length: int, most: int) -> None:
    """Raise VidgenError for more than `most` bytes."""
    if length > most:
        raise VidgenError(
            f"{os.fspath(where)} has over {most // 2**20} MiB, more than a file of its kind; name another"
        )


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError, with the reason, for one that is damaged, that names a key
    twice, that nests deeper than `DEEPEST`, or that holds numbers or text which cannot be written again."""
    value = load_json(text, object_pairs_hook=_unique)
    check_plain(value)
    return value


def load_json(text: str | bytes, **settings: Any) -> Any:
    """Return what `json.loads` does. Raises ValueError for all that is wrong with a text, deep nesting too."""
    try:
        return json.loads(text, **settings)
    except RecursionError:
        raise ValueError(f"nested over {DEEPEST} levels deep") from None


def load_shape(text: str, shape: type[Shape], name: object) -> Shape:
    """Return the object (dict) or list of a JSON text. Raises VidgenError, by the name of its file, for another."""
    wanted = "one object" if shape is dict else "a list of objects"
    try:
        value = load_json(text)
    except ValueError as error:
        raise VidgenError(f"{name}: not JSON ({error}); it needs {wanted}") from None
    if not isinstance(value, shape):
        raise VidgenError(f"{name}: JSON of a {type(value).__name__}; it needs {wanted}")
    return value


def check_plain(value: Any) -> None:
    """Raise ValueError where JSON's values nest deeper than `DEEPEST`, or hold NaN, infinity, or halves of surrogate
    pairs."""
    level = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError(f"{item} is no number of JSON")
            elif isinstance(item, str) and SURROGATE.search(item):
                raise ValueError("half of a surrogate pair, which is no text")
        if not below:
            return
        level = below
    raise ValueError(f"nested over {DEEPEST} levels deep")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`. Raises VidgenError if there is none."""
    try:
        values = parse_json(read_text(path))
    except (FileNotFoundError, NotADirectoryError):
        raise VidgenError(f"{path} is missing: not a model folder; check the path") from None
    except VidgenError:
        raise
    except (OSError, ValueError) as error:
        raise VidgenError(f"{path} cannot be read as JSON ({error}); the model folder is damaged") from None
    if not isinstance(values, dict):
        raise VidgenError(f"{path} holds a {type(values).__name__}, not an object; the model folder is damaged")
    return values


def read_class(values: Mapping[str, Any], where: Path) -> str | None:
    """Return the class that a config or index names, if any. Raises VidgenError for one that is no name."""
    name = values.get("_class_name")
    if name is not None and not (isinstance(name, str) and name.isidentifier()):
        raise VidgenError(f"{where}: _class_name is {str(name)[:60]!r}, not the name of a class; the file is damaged")
    return name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands twice in one object")
    return values
