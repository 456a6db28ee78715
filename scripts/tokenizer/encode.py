"""Clips to token files: one, or all of a folder with an index, continued where an earlier run stopped."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.errors import VideoError, VidgenError, WriteError
from vidgen.scripts.cli.clips import Cut, OpenedClip, open_frames
from vidgen.scripts.cli.printing import note, progress

if TYPE_CHECKING:
    from vidgen.data.manifests import ClipRecord
    from vidgen.scripts.tokenizer.clip_codecs import Codec


@dataclass(frozen=True, kw_only=True)
class Writer:
    """What every clip of a run is encoded with; `model` is the name that the tokenizer was asked for by."""

    codec: Codec
    model: str


def encode_clip(writer: Writer, opened: OpenedClip, target: Path) -> dict[str, Any]:
    """Write the tokens of an opened clip as its frames come, and return its row of the report.

    Raises VidgenError, with nothing written, if the clip cannot be read or the file not be written.
    """
    started = time.perf_counter()
    writer.codec.check_size(*opened.first_size)  # before a frame of that size is made
    with progress(opened.path.name, opened.expected) as advance, writer.codec.writing(target) as tokens:
        for piece in writer.codec.encode(opened.counted(advance)):
            tokens.add(piece)
        if not opened.count:
            raise VideoError(f"{opened.path}: no frames in the part asked for; ask for another")
        height, width = opened.size
        size = {"num_frames": opened.count, "height": height, "width": width, "fps": opened.fps}
        tokens.finish(**size, extra={"source": opened.path.name, "model": writer.model})
    for problem in opened.problems:
        note(f"warning: {problem}")
    return {"path": str(target), "source": str(opened.path), **size, **tokens.shapes} | {
        "bits": tokens.payload,
        "bytes": target.stat().st_size,
        "seal": tokens.seal,
        "seconds": round(time.perf_counter() - started, 2),
    }


def encode_folder(writer: Writer, records: list[ClipRecord], folder: Path, cut: Cut) -> dict[str, Any]:
    """Write the tokens of every clip below `folder`, with an index; clips that are there already are left alone.

    Returns {"path", "index", "encoded", "kept", "failed": [{"path", "reason"}], "clips": rows of the index}. Raises
    VidgenError if no clip can be used, and while another process writes the folder.
    """
    from vidgen.files.locks import exclusive

    with exclusive(folder, "folder of tokens"):
        return _encode_records(writer, records, folder, cut)


def _encode_records(writer: Writer, records: list[ClipRecord], folder: Path, cut: Cut) -> dict[str, Any]:
    from vidgen.data.fingerprints import describe_source, is_current
    from vidgen.files.atomic import sweep
    from vidgen.tokenizers.files.token_folders import TokenIndex, TokenRow, hash_source, place

    is_new = not folder.exists()
    folder.mkdir(exist_ok=True)
    index = TokenIndex(folder)
    failed: list[dict[str, str]] = []
    names_done: list[str] = []
    unchanged = 0
    author = writer.codec.author
    settings = dataclasses.asdict(cut) | writer.codec.settings
    names = place([record.id for record in records], ".safetensors")
    for record, name in zip(records, names, strict=True):
        target = folder / name
        sweep(target.parent)
        try:
            source_hash = hash_source(record, author.hash, settings)
            facts = (author.hash, settings)
            if index.holds(name, source_hash, lambda before, r=record, f=facts: is_current(before, r, *f)):
                unchanged += 1
            else:
                made_from = describe_source(record, *facts)  # before it is read: a change meanwhile counts as one
                opened = open_frames(record.path, cut, record)
                target.parent.mkdir(parents=True, exist_ok=True)
                row = encode_clip(writer, opened, target)
                index.add(
                    TokenRow(
                        path=name,
                        source=str(record.path),
                        frames=row["num_frames"],
                        hash=source_hash,
                        tokenizer_hash=author.hash,
                        made_from=made_from,
                        **{key: row[key] for key in ("fps", "height", "width", "bytes", "bits", "seal")},
                    )
                )
            names_done.append(name)
        except WriteError:
            raise
        except VidgenError as error:
            failed.append({"path": str(record.path), "reason": str(error)})
            note(f"left out: {error}")
    if not names_done:
        if is_new:
            _remove_empty(folder)
        raise VidgenError(f"{folder}: none of {len(records)} clips can be used; see `vidgen data inspect`")
    index.save()
    report = {"path": str(folder), "index": str(index.file), "encoded": len(names_done) - unchanged, "kept": unchanged}
    return report | {"failed": failed, "clips": [dataclasses.asdict(index.rows[name]) for name in names_done]}


def _remove_empty(folder: Path) -> None:
    """Remove folders below and including `folder` that hold nothing."""
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True) + [folder]:
        if not any(path.iterdir()):
            path.rmdir()
