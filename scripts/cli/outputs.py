"""Where results go: names for several clips, and the check, before any work, that they can be written there."""

from __future__ import annotations

import re
from pathlib import Path

from vidgen.errors import VidgenError

SUFFIXES = {"mp4": ".mp4", "gif": ".gif", "webp": ".webp", "png": "", "latent": ".safetensors"}
_KINDS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mp4", ".mkv": "mp4", ".gif": "gif", ".webp": "webp", ".png": "png"}
_KINDS |= {"": "png", ".safetensors": "latent"}
_SLUG_LENGTH = 60
PLOT_SUFFIXES = (".png", ".svg", ".pdf")


def slug(text: str) -> str:
    """Return a file name made of the text's letters and digits."""
    return re.sub(r"[^\w]+", "-", text.strip().lower()).strip("-_")[:_SLUG_LENGTH].rstrip("-_") or "clip"


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


def plan_outputs(prompts: list[str], copies: int, output: Path | None, kind: str) -> list[Path]:
    """Return one path a clip, prompt by prompt. Several clips are numbered; default names never hit a file."""
    suffix = SUFFIXES[kind]
    many = len(prompts) * copies > 1
    if output is not None:
        base = output if output.suffix else output.with_name(output.name + suffix)
        return [numbered(base, i) for i in range(len(prompts) * copies)] if many else [base]
    paths: list[Path] = []
    for prompt in prompts:
        for k in range(copies):
            stem = f"{slug(prompt)}{f'-{k}' if copies > 1 else ''}"
            path = Path(f"{stem}{suffix}")
            tries = 1
            while path.exists() or path in paths:
                tries += 1
                path = Path(f"{stem}_{tries}{suffix}")
            paths.append(path)
    return paths


def numbered(path: Path, index: int) -> Path:
    """Return out.mp4 as out-3.mp4."""
    return path.with_name(f"{path.stem}-{index}{path.suffix}")


def beside(path: Path, suffix: str) -> Path:
    """Return clip.mp4 as clip + `suffix`, in the same folder; numbered frames (f_%04d.png) lose their pattern."""
    return path.with_name(re.sub(r"%0?\d*d", "", path.stem) + suffix)


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

    folder: `path` is a folder to be made, which must be new or empty.
    """
    import tempfile  # not at the top: it is slow, and every `vidgen --help` would wait for it

    if folder and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise VidgenError(f"{path}: exists already; give a new or empty folder")
    if not folder and path.is_dir():
        raise VidgenError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise VidgenError(f"{path}: the folder {path.parent} does not exist; create it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise VidgenError(f"{path}: {path.parent} cannot be written to: {error.strerror}; choose another -o") from None
