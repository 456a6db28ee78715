"""Where results go: before any work, whether they can be written there, and that nothing that is read is lost."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from vidgen.checkpoints.hub import SHIPPED
from vidgen.errors import VidgenError, WriteError
from vidgen.files.names import LONGEST_NAME, short_name

# Parameters of verbs that name what is written, and those that name what is read; a test holds them against all verbs.
OUTPUTS = ("output", "out", "plot", "sheet", "report", "report_file", "picture", "write")
INPUTS = ("clip", "tokens", "source", "clips", "labeled", "real", "generated", "prompts", "prompts_file", "story")
INPUTS += ("image", "last_image", "video", "mask", "reference", "bank", "banks", "test_bank", "index", "query")
INPUTS += (
    "model",
    "lora",
    "prior",
    "warp_noise",
    "annotations",
    "videos",
    "film",
    "data",
    "predictions",
    "descriptors",
)

SUFFIXES = {"mp4": ".mp4", "gif": ".gif", "webp": ".webp", "png": "", "latent": ".safetensors"}
_KINDS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".mkv": "mp4", ".gif": "gif", ".webp": "webp", ".png": "png"}
_KINDS |= {"": "png", ".safetensors": "latent"}
_SLUG_LENGTH = 60
_SLUG_BYTES = 200
PLOT_SUFFIXES = (".png", ".svg", ".pdf")
REPORT_SUFFIXES = (*PLOT_SUFFIXES, ".json", ".html")
_inputs: list[Path] = []  # what the running verb reads
_locks = ExitStack()  # of what it writes


def slug(text: str) -> str:
    """Return a file name made of the text's letters and digits, which leaves place for suffixes and numbers."""
    name = re.sub(r"[^\w]+", "-", text.strip().lower()).strip("-_")[:_SLUG_LENGTH]
    return name.encode()[:_SLUG_BYTES].decode(errors="ignore").rstrip("-_") or "clip"


def output_kind(output: Path | None, kind: str | None) -> str:
    """Return mp4, gif, webp, png or latent: `kind`, else by the suffix. VidgenError if the two contradict."""
    if output is None:
        return kind or "mp4"
    by_suffix = _KINDS.get(output.suffix.lower())
    if by_suffix is None:
        suffixes = ", ".join(suffix for suffix in _KINDS if suffix)
        raise VidgenError(
            f"{output}: no format is known for {output.suffix!r}; use {suffixes}, or a folder for png frames"
        )
    if kind is not None and kind != by_suffix and output.suffix:
        raise VidgenError(f"{output} is not of --output-type {kind}; leave one of the two out")
    return kind or by_suffix


def plan_outputs(prompts: list[str], copies: Sequence[int], output: Path, kind: str, *, is_folder: bool) -> list[Path]:
    """Return one path a clip, prompt by prompt, of several clips or of one.

    In a folder they are called for their prompts; else they are numbered where there are several.
    """
    suffix = SUFFIXES[kind]
    if is_folder:
        stems = [stem for prompt in prompts for stem in stems_of(prompt, copies)]
        return [output / name for name in distinct(stems, suffix)]
    count = len(prompts) * len(copies)
    base = output if output.suffix else output.with_name(output.name + suffix)
    return [numbered(base, i) for i in range(count)] if count > 1 else [base]


def default_outputs(prompts: list[str], copies: Sequence[int], kind: str, known: Sequence[Path | None]) -> list[Path]:
    """Return one path a clip in the current folder: the one that is known, else a new one that hits no file."""
    suffix = SUFFIXES[kind]
    stems = [stem for prompt in prompts for stem in stems_of(prompt, copies)]
    taken = {str(path) for path in known if path is not None}
    names = distinct([stem for stem, path in zip(stems, known, strict=True) if path is None], suffix, taken)
    return [path or Path(next(names)) for path in known]


def stems_of(prompt: str, copies: Sequence[int]) -> list[str]:
    """Return the names of a prompt's clips, without suffix."""
    return [slug(prompt)] if tuple(copies) == (0,) else [f"{slug(prompt)}-{copy}" for copy in copies]


def distinct(stems: Iterable[str], suffix: str, taken: set[str] | None = None) -> Iterator[str]:
    """Yield STEM + `suffix` for each, or STEM_2, STEM_3 ... where one before it has that name.

    With `taken`, no name in it is used either, and none of a file."""
    names = set(taken or ())
    for stem in stems:
        name = f"{stem}{suffix}"
        tries = 1
        while name in names or (taken is not None and Path(name).exists()):
            tries += 1
            name = f"{stem}_{tries}{suffix}"
        names.add(name)
        yield name


def numbered(path: Path, index: int) -> Path:
    """Return out.mp4 as out-3.mp4."""
    return path.with_name(f"{path.stem}-{index}{path.suffix}")


def beside(path: Path, suffix: str) -> Path:
    """Return clip.mp4 as clip + `suffix`, in the same folder; numbered frames (f_%04d.png) lose their pattern."""
    return path.with_name(short_name(re.sub(r"%0?\d*d", "", path.stem), suffix))


def check_frames(path: Path, num_frames: int) -> None:
    """Raise VidgenError for a single image that several frames would have to go into."""
    if num_frames > 1 and path.suffix.lower() == ".png" and "%" not in path.name:
        raise VidgenError(f"{path}: one image cannot hold {num_frames} frames; name a folder, or f_%04d.png")


def check_plot(path: Path) -> None:
    """Raise VidgenError for a suffix that is no picture's, and for what `check_output` finds."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise VidgenError(f"{path}: no picture format; use one of {', '.join(PLOT_SUFFIXES)}")
    check_output(path)


def check_output(path: Path, *, folder: bool = False) -> None:
    """Raise VidgenError now for what would only fail at the end: no such folder, no permission, something in the way.

    So it does for a path that the running verb reads. folder: `path` is to be made, and must be new or empty.
    """
    from vidgen.files.atomic import sweep

    check_place(path)
    for source in _inputs:
        check_overwrite(path, source)
    if folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise VidgenError(f"{path}: exists already; give a new or empty folder")
    if not folder and path.is_dir():
        raise VidgenError(f"{path}: is a folder; name a file")
    if path.parent.exists() and not path.parent.is_dir():
        raise VidgenError(f"{path}: {path.parent} is a file, where a folder is needed; choose another place")
    if not path.parent.is_dir():
        raise VidgenError(f"{path}: the folder {path.parent} does not exist; create it first")
    check_writable(path, path.parent)
    sweep(path.parent)


def check_folder_output(path: Path, *, parents: bool = False) -> None:
    """Raise VidgenError as `check_output`, for a folder that is written into and may be there already.

    parents: whether missing folders above it are made too.
    """
    check_place(path)
    if path.exists() and not path.is_dir():
        raise VidgenError(f"{path}: is a file, and a folder is needed; name another")
    home = path
    while parents and not home.parent.exists():
        home = home.parent
    check_output(path / "x" if path.is_dir() else home)
    if parents:  # before, there may have been no place for its lock
        lock_output(path)


def check_writable(path: Path, folder: Path) -> None:
    """Raise WriteError where no file can be made in a folder, or none of that name."""
    import tempfile  # not at the top: it is slow, and every `vidgen --help` would wait for it

    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else LONGEST_NAME
    if (size := len(os.fsencode(path.name))) > longest:
        raise WriteError(f"{path.name[:40]}...: a name of {size} bytes is too long here, {longest} at most; shorten it")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise WriteError(f"{path}: {folder} cannot be written to: {error.strerror}; choose another place") from None


def check_place(path: Path) -> None:
    """Raise VidgenError for what names no file or folder of one's own: nothing, a stream, a device."""
    if str(path) in (".", "-"):  # the former is what nothing becomes
        what = "stdout takes no results" if str(path) == "-" else "that is nothing, or this very folder"
        raise VidgenError(f"-o {str(path)!r}: {what}; name a file or folder")
    real = Path(os.path.realpath(path))
    devices = (Path("/dev"), Path("/proc"), Path("/sys"))
    is_special = path.exists() and not path.is_file() and not path.is_dir()
    if is_special or any(device in (*path.absolute().parents, *real.parents) for device in devices):
        if Path("/dev/shm") not in real.parents:
            raise VidgenError(f"{path}: cannot be written to: it is a device, a pipe or of the system; name a file")


@contextmanager
def checked_parameters(values: Mapping[str, Any]) -> Iterator[None]:
    """Take note of what a verb reads, and keep other processes from what it writes until the end of the block.

    Raises VidgenError for an output that is no place for one, is read by it, or is being written.
    """
    _inputs.clear()
    for name in INPUTS:
        value = values.get(name)
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, str | Path) and str(item):
                file, colon, _ = str(item).rpartition(":")  # x.safetensors:0.5
                path = Path(file if colon and file and not os.path.lexists(item) else item)
                _inputs.append(SHIPPED / path if name == "model" and (SHIPPED / path).is_dir() else path)
    outputs: list[str | Path] = []
    for name in OUTPUTS:
        if isinstance(path := values.get(name), str | Path):
            check_place(path)
            for source in _inputs:
                check_overwrite(Path(path), source)
            if Path(path).parent.is_dir():  # else the verb says that there is no such folder, or makes it
                outputs.append(path)
    with _locks:
        for path in outputs:
            lock_output(path)
        yield


def lock_output(path: Path) -> None:
    """Keep other processes from writing `path` as long as the running verb takes. VidgenError where one does."""
    from vidgen.files.locks import reserve

    if os.environ.get("RANK", "0") == "0":  # of the processes of one training, one writes
        _locks.enter_context(reserve(path, "output"))


def check_overwrite(path: Path, source: Path) -> None:
    """Raise VidgenError where writing `path` would take away a file that is read: `source`, or one in that folder.

    They are compared as the file system knows them: links, `..` and other names of the same file are the same. Reports
    and pictures may go into the folder that they are of.
    """
    if not (os.path.exists(path) and os.path.exists(source)):
        return
    if os.path.samefile(path, source):
        kind = "folder" if os.path.isdir(source) else "file"
        raise VidgenError(f"{path}: is the {kind} that is read, {source}, and would be lost; choose another output")
    output = Path(os.path.realpath(path))
    is_inside = os.path.isfile(output) and Path(os.path.realpath(source)) in output.parents
    if is_inside and output.suffix.lower() not in REPORT_SUFFIXES:
        raise VidgenError(f"{path}: is a file of {source}, which is read, and would be lost; choose another output")


def check_sources(outputs: Iterable[Path], sources: Iterable[Path]) -> None:
    """Raise VidgenError where one of many outputs is one of many files that are read, by whatever name."""
    files = {identity(source): source for source in sources if source.exists()}
    for output in outputs:
        if output.exists() and (source := files.get(identity(output))) is not None:
            check_overwrite(output, source)


def identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from all others, whatever its name."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino
