"""Writing token files as the tokens come: a clip of any length in memory for one piece of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vidgen.data.text_files import readable
from vidgen.files.atomic import atomic_write
from vidgen.interfaces import Tokenizer
from vidgen.tokenizers.evaluation.token_usage import codebook_size
from vidgen.tokenizers.files.index_packing import bits_for, pack_indices
from vidgen.tokenizers.files.token_files import FORMAT, frame_checksums, header_seal, raw_bytes, tokenizer_hash
from vidgen.tokenizers.streaming.chunks import Tokens

COPIED_AT_ONCE = 2**22  # bytes
DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
}


class Clip(Protocol):
    """What is written at once: `Encoded` of a tokenizer, or anything with these."""

    latents: Tensor
    indices: Tensor | None
    num_frames: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Author:
    """The tokenizer that files are written for, looked at once for many of them."""

    name: str
    hash: str
    codebook_size: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Author:
        """Return the author of files for `tokenizer`."""
        hashed = tokenizer_hash(tokenizer)
        return cls(name=tokenizer.config.name, hash=hashed, codebook_size=codebook_size(tokenizer))


class TokenWriter:
    """Takes the tokens of one clip in order, and then what is to be said of the clip; from `writing_tokens`."""

    def __init__(self, target: Path, author: Author) -> None:
        self.author = author
        self.bits = 0  # of an index; 0 for latents
        self.payload = 0  # bits of the tokens so far
        self._target = target
        self._spool = target.with_name("spool")
        self._file = self._spool.open("wb")
        self._grid: tuple[int, ...] = ()
        self._dtype = torch.uint8
        self._checksums: list[str] = []
        self.num_latents = 0
        self.seal = ""  # of the file, once it is written

    def add(self, tokens: Tokens) -> None:
        """Add the next latent frames of the clip."""
        self.num_latents += tokens.latents.shape[2]
        if self.author.codebook_size and tokens.indices is not None:
            self.bits = bits_for(self.author.codebook_size)
            self._grid = tuple(tokens.indices.shape[2:])
            rows = pack_indices(tokens.indices[0].flatten(1), self.bits)
            self.payload += self.bits * tokens.indices.numel()
        else:
            rows = rearrange(tokens.latents.detach().cpu(), "1 c t h w -> t c h w").contiguous()
            self._grid = tuple(rows.shape[1:])
            self._dtype = rows.dtype
            self.payload += 8 * rows.numel() * rows.element_size()
        self._checksums += frame_checksums(rows)
        self._file.write(raw_bytes(rows))

    @property
    def shape(self) -> tuple[int, ...]:
        """(c, t, h, w) of latents, or (t, h, w) or (t, h, w, q) of indices."""
        if self.bits:
            return (self.num_latents, *self._grid)
        c, *grid = self._grid
        return (c, self.num_latents, *grid)

    @property
    def shapes(self) -> dict[str, list[int]]:
        """The shape by the name of what the file holds."""
        return {"indices" if self.bits else "latents": list(self.shape)}

    def finish(
        self, *, num_frames: int, height: int, width: int, fps: float, extra: Mapping[str, str] | None = None
    ) -> None:
        """Write the file. Raises ValueError if no tokens were added."""
        self._file.close()
        if not self.num_latents:
            raise ValueError("a token file needs at least one latent frame, got none")
        metadata = {
            **{k: readable(str(v)) for k, v in (extra or {}).items()},
            "format": FORMAT,
            "tokenizer": self.author.name,
            "tokenizer_hash": self.author.hash,
            "num_frames": str(num_frames),
            "height": str(height),
            "width": str(width),
            "fps": repr(float(fps)),
            "time_base": str(1 / Fraction(fps).limit_denominator(1001)),
        }
        if self.bits:
            metadata |= {"bits": str(self.bits), "codebook_size": str(self.author.codebook_size)}
            metadata |= {"index_shape": " ".join(map(str, self._grid))}
        metadata["checksums"] = " ".join(self._checksums)
        size = self._spool.stat().st_size
        name = "indices" if self.bits else "latents"
        shape = (self.num_latents, size // self.num_latents) if self.bits else (1, *self.shape)
        self.seal = metadata["seal"] = header_seal(name, DTYPE_NAMES[self._dtype], shape, metadata)
        with self._spool.open("rb") as spool, self._target.open("wb") as file:
            file.write(safetensors_header(name, shape, self._dtype, metadata))
            if self.bits:
                shutil.copyfileobj(spool, file)
            else:
                _, c, t, _, _ = shape
                sort_by_channel(spool, file, frames=t, channels=c, plane=size // (t * c))
        self._spool.unlink()


def sort_by_channel(spool: BinaryIO, file: BinaryIO, *, frames: int, channels: int, plane: int) -> None:
    """Copy latents that came frame by frame to where they lie channel by channel, some frames at a time.

    `plane` is the bytes of one channel of one frame. Read and written rather than mapped: mapped pages count as memory.
    """
    start = file.tell()
    done = 0
    while block := spool.read(max(1, COPIED_AT_ONCE // (channels * plane)) * channels * plane):
        planes = rearrange(np.frombuffer(block, np.uint8), "(t c n) -> c t n", c=channels, n=plane)
        for channel, part in enumerate(planes):
            file.seek(start + (channel * frames + done) * plane)
            file.write(part.tobytes())
        done += planes.shape[1]


def safetensors_header(name: str, shape: tuple[int, ...], dtype: torch.dtype, metadata: dict[str, str]) -> bytes:
    """Return what stands before the data of a safetensors file with one tensor.

    That is the length of the rest in 8 bytes, and JSON filled up with blanks so that the data is aligned.
    """
    size = torch.Size(shape).numel() * dtype.itemsize
    tensor = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": metadata, name: tensor}, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


@contextmanager
def writing_tokens(path: str | os.PathLike, author: Author) -> Iterator[TokenWriter]:
    """Open a writer of a token file that stands at `path` once it is finished, or not at all.

    Raises VidgenError if `path` cannot be written.
    """
    with atomic_write(path) as target:
        writer = TokenWriter(target, author)
        try:
            yield writer
        finally:
            writer._file.close()


def write_tokens(
    path: str | os.PathLike, clip: Clip, tokenizer: Tokenizer, *, fps: float, extra: Mapping[str, str] | None = None
) -> Path:
    """Write a clip made by or for `tokenizer` at once: its indices where it has any, else its latents as they are.

    Raises VidgenError if `path` cannot be written.
    """
    path = Path(path)
    with writing_tokens(path, Author.of(tokenizer)) as writer:
        writer.add(Tokens(latents=clip.latents, indices=clip.indices))
        writer.finish(num_frames=clip.num_frames, height=clip.height, width=clip.width, fps=fps, extra=extra)
    return path
