"""Token files to clips: one, a part of one, or all that an index lists."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vidgen.errors import VidgenError, WriteError
from vidgen.scripts.cli.moments import Moment
from vidgen.scripts.cli.printing import note, progress

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.scripts.tokenizer.clip_codecs import Codec
    from vidgen.tokenizers.files.token_files import TokenInfo
    from vidgen.tokenizers.keyframes.files import KeyframeFile


@dataclass(frozen=True, kw_only=True)
class Part:
    """The part of a clip from `start` up to `end`, and not with it; None is the clip's own start or end."""

    start: Moment | None = None
    end: Moment | None = None

    def frames(self, path: Path, info: TokenInfo | KeyframeFile) -> tuple[int, int]:
        """Return its first frame and the one after its last. Raises VidgenError for a part that has none."""
        first = self.start.at(info.fps) if self.start else 0
        stop = min(self.end.at(info.fps), info.num_frames) if self.end else info.num_frames
        if first >= stop:
            start = self.start.text if self.start else "0"
            end = self.end.text if self.end else "the end"
            length = f"{info.num_frames} frames, {info.num_frames / info.fps:.3f} s"
            raise VidgenError(f"{path}: no frames from {start} to {end}; the clip has {length}")
        return first, stop


def check_part(path: Path, part: Part) -> None:
    """Raise VidgenError for a file without tokens, or without such a part, by its header: quick to fail. One of key
    frames has no part to look at yet."""
    from vidgen.pipelines.priors.coded_files import holds_coded, read_coded
    from vidgen.tokenizers.files.token_files import open_tokens
    from vidgen.tokenizers.keyframes.files import holds_key_frames

    if holds_coded(path):
        part.frames(path, read_coded(path).info)
    elif not holds_key_frames(path):
        with open_tokens(path) as file:
            part.frames(path, file.info)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What every token file of a run is decoded with."""

    codec: Codec
    part: Part


def decode_file(reader: Reader, path: Path, target: Path) -> dict[str, Any]:
    """Write the clip of a token file, or a part of it, reading no more than that part of the file.

    Raises VidgenError, with nothing written, for a file that is damaged or of another tokenizer.
    """
    from vidgen.data.writing import write_video

    started = time.perf_counter()
    with reader.codec.opened(path) as (info, decode):
        start, stop = reader.part.frames(path, info)

        def frames() -> Iterator[Tensor]:
            count = 0
            with progress(path.name, stop - start) as advance:
                for piece in decode(start, stop):
                    yield from piece.split(1, dim=1)  # so that conversions take memory for one frame
                    count += piece.shape[1]
                    advance(count)

        write_video(frames(), target, fps=info.fps)
    row = {"path": str(target), "source": str(path), "num_frames": stop - start, "start_frame": start}
    row |= {"height": info.height, "width": info.width, "fps": info.fps}
    return row | {"seconds": round(time.perf_counter() - started, 2)}


def decode_folder(reader: Reader, folder: Path, output: Path) -> dict[str, Any]:
    """Write the clip of every file that the index of `folder` lists, under the same paths, as .mp4.

    Returns {"path", "clips": rows, "failed": [{"path", "reason"}]}; files that cannot be decoded are named and left
    out. Raises VidgenError if there is no index or no file of it can be decoded.
    """
    from vidgen.tokenizers.files.token_folders import check_seal, place, read_index, unlisted

    rows = read_index(folder)
    failed: list[dict[str, str]] = []
    clips: list[dict[str, Any]] = []
    names = [PurePosixPath(row.path).with_suffix("") for row in rows]  # a.mp4.safetensors: a.mp4
    short = [name.with_suffix("").as_posix() for name in names]
    # Without the clip's own suffix, unless two would then be one.
    unique = [s if short.count(s) == 1 else name.as_posix() for s, name in zip(short, names, strict=True)]
    for row, name in zip(rows, place(unique, ".mp4"), strict=True):
        target = output / name
        try:
            check_seal(folder / row.path, row)
            target.parent.mkdir(parents=True, exist_ok=True)
            clips.append(decode_file(reader, folder / row.path, target))
        except WriteError:
            raise
        except VidgenError as error:
            failed.append({"path": str(folder / row.path), "reason": str(error)})
            note(f"left out: {error}")
    for path in unlisted(folder, rows):
        reason = f"{path}: not in the index of {folder}, which has lost a line or was not finished; encode again"
        failed.append({"path": str(path), "reason": reason})
        note(f"left out: {reason}")
    if not clips:
        raise VidgenError(f"{folder}: none of its {len(rows)} token files can be decoded; see the lines above")
    return {"path": str(output), "clips": clips, "failed": failed}
