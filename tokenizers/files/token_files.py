"""Token files: one clip as latents or indices in safetensors, with what it takes to give the clip back, and by whom.

A continuous tokenizer's file holds `latents` (1, c, t, h, w); a discrete one's `indices`, uint8 (t, bytes): the
indices of each latent frame in their fewest whole bits (see `index_packing`). Either is read a range of latent
frames at a time, from a part of the file. Its metadata has the checksum of every latent frame, and the seal of all
that the header says; files of earlier versions have neither.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.files.interrupts import signals_held
from vidgen.files.seals import checksum, json_checksum, open_sealed
from vidgen.interfaces import Tokenizer
from vidgen.tokenizers.encoded import latent_size
from vidgen.tokenizers.files.index_packing import unpack_indices

FORMAT = "vidgen tokens 1"
KEYFRAME_ENTRY = "vidgen key frames"  # of a file of `vidgen.tokenizers.keyframes.files`, in its metadata
CODED_ENTRY = "vidgen coded tokens"  # of a file of `vidgen.pipelines.priors.coded_files`
NAMED = (
    "format",
    "tokenizer",
    "tokenizer_hash",
    "num_frames",
    "height",
    "width",
    "fps",
    "time_base",
    "checksums",
    "seal",
)
NAMED_INDICES = ("bits", "codebook_size", "index_shape")  # of files with indices


@dataclass(frozen=True, kw_only=True)
class TokenInfo:
    """What a token file says of its clip. `tokenizer` is the name of what wrote it, fps frames a second, `extra`
    anything else said; `shape` is that of its latents or indices, `bits` an index has, 0 in a file of latents.
    `checksums` are of its latent frames, `seal` of its header, "" in files of earlier versions."""

    num_frames: int
    height: int
    width: int
    fps: float
    tokenizer: str
    tokenizer_hash: str
    shape: tuple[int, ...]
    bits: int = 0
    codebook_size: int = 0
    checksums: tuple[str, ...] = ()
    seal: str = ""
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A clip as tokens, all of it: `latents`, or `indices` of a discrete tokenizer."""

    latents: Float[Tensor, "1 c t h w"] | None
    indices: Int[Tensor, "1 t h w"] | Int[Tensor, "1 t h w q"] | None
    num_frames: int
    height: int
    width: int
    fps: float
    tokenizer: str
    tokenizer_hash: str
    extra: dict[str, str] = field(default_factory=dict)


def raw_bytes(x: Tensor) -> memoryview:
    """Return the elements of a contiguous tensor in memory order; numpy has no bfloat16, so by way of bytes."""
    return memoryview(x.flatten().view(torch.uint8).numpy())


def frame_checksums(rows: Tensor) -> list[str]:
    """Return the checksum of each of rows (t, ...)."""
    return [checksum(raw_bytes(row.contiguous())) for row in rows]


def header_seal(name: str, dtype: str, shape: tuple[int, ...], metadata: dict[str, str]) -> str:
    """Return the seal of what a header says of its one tensor and beside it; an earlier seal is left out."""
    return json_checksum([name, dtype, list(shape), {k: v for k, v in metadata.items() if k != "seal"}])


def tokenizer_hash(tokenizer: nn.Module) -> str:
    """Return the hash of a tokenizer's config and of its weights in bfloat16, whatever precision it was loaded in."""
    return model_hash(copy.deepcopy(tokenizer).to(torch.bfloat16))


class TokenReader:
    """An open token file, read some latent frames at a time; from `open_tokens`."""

    def __init__(self, path: Path, file: safe_open, info: TokenInfo) -> None:
        self.path = path
        self.info = info
        self._slice = file.get_slice("indices" if info.bits else "latents")

    @property
    def num_latents(self) -> int:
        """Latent frames in the file."""
        return self.info.shape[1 if self.info.bits else 2]

    def latents(self, start: int = 0, stop: int | None = None) -> Float[Tensor, "1 c t h w"]:
        """Return latent frames `start` to `stop` of a file of latents. Raises VidgenError where they are not finite."""
        with signals_held():
            latents = self._slice[:, :, start : self.num_latents if stop is None else stop]
        if not latents.isfinite().all():
            raise VidgenError(
                f"{self.path}: holds latents that are not finite; the file is damaged, encode the clip again"
            )
        self._check(rearrange(latents, "1 c t h w -> t c h w"), start)
        return latents

    def indices(self, start: int = 0, stop: int | None = None) -> Int[Tensor, "1 t h w"] | Int[Tensor, "1 t h w q"]:
        """Return the indices (int64) of latent frames `start` to `stop` of a file of indices.

        Raises VidgenError for an index that the codebook does not have.
        """
        with signals_held():
            packed = self._slice[start : self.num_latents if stop is None else stop]
        grid = self.info.shape[2:]
        flat = unpack_indices(packed, self.info.bits, torch.Size(grid).numel())
        if flat.numel() and flat.max() >= self.info.codebook_size:
            raise VidgenError(
                f"{self.path}: holds index {flat.max()}, and its codebook has {self.info.codebook_size} codes; "
                f"the file is damaged, encode the clip again"
            )
        self._check(packed, start)
        return flat.reshape(1, len(flat), *grid)

    def _check(self, rows: Tensor, start: int) -> None:
        """Raise VidgenError where rows (t, ...), from latent frame `start` on, are not as they were written."""
        if not self.info.checksums:
            return
        for number, actual in enumerate(frame_checksums(rows), start):
            if actual != self.info.checksums[number]:
                raise VidgenError(f"{self.path}: latent frame {number} is not as it was written; encode the clip again")

    def for_tokenizer(self, tokenizer: Tokenizer, start: int, stop: int) -> Float[Tensor, "1 c t h w"]:
        """Return latents to decode, of either kind of file."""
        if not self.info.bits:
            return self.latents(start, stop)
        return tokenizer.latents_from_indices(self.indices(start, stop).to(tokenizer.device))


def check_tokenizer(path: Path, info: TokenInfo, tokenizer: Tokenizer, own_hash: str | None = None) -> None:
    """Raise VidgenError unless the file was written for `tokenizer` and its shape is what its frames need.

    own_hash: `tokenizer_hash(tokenizer)`, where it is there already.
    """
    config = tokenizer.config
    if (own := own_hash or tokenizer_hash(tokenizer)) != info.tokenizer_hash:
        raise VidgenError(
            f"{path}: written for tokenizer {info.tokenizer} ({info.tokenizer_hash[:12]}), and this one is "
            f"{config.name} ({own[:12]}); decode it with the model that it was made with"
        )
    grid = latent_size(info.height, info.width, config.spatial_compression_ratio)
    expected = (tokenizer.latent_frames(info.num_frames), *grid)
    size = info.shape[1:4] if info.bits else info.shape[2:]
    if size != expected or (not info.bits and info.shape[1] != config.latent_channels):
        what = "indices" if info.bits else "latents"
        raise VidgenError(
            f"{path}: {what} {info.shape} do not fit {info.num_frames} frames of {info.height}x{info.width}, "
            f"which need {expected}; encode the clip again"
        )


@contextmanager
def open_tokens(
    path: str | os.PathLike, tokenizer: Tokenizer | None = None, *, own_hash: str | None = None
) -> Iterator[TokenReader]:
    """Open a token file, and read nothing but its header yet; with `tokenizer`, it is checked against it.

    Raises VidgenError for a file that is missing, damaged or of another kind, or written for another tokenizer.
    """
    path = Path(path)
    if not path.is_file():
        raise VidgenError(f"{path}: no such file; `vidgen tokenizer encode` makes token files")
    try:
        file = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None
    with file:
        reader = TokenReader(path, file, _describe(path, file))
        if tokenizer is not None:
            check_tokenizer(path, reader.info, tokenizer, own_hash)
        yield reader


def read_tokens(path: str | os.PathLike, tokenizer: Tokenizer | None = None) -> TokenFile:
    """Read all of a token file; with `tokenizer`, only if that is what it was written for.

    Raises as `open_tokens` does.
    """
    with open_tokens(path, tokenizer) as reader:
        info = reader.info
        return TokenFile(
            latents=None if info.bits else reader.latents(),
            indices=reader.indices() if info.bits else None,
            num_frames=info.num_frames,
            height=info.height,
            width=info.width,
            fps=info.fps,
            tokenizer=info.tokenizer,
            tokenizer_hash=info.tokenizer_hash,
            extra=info.extra,
        )


def read_seal(path: Path) -> str:
    """Return the seal of a token file of any kind, by its header. Raises as `open_tokens` does."""
    try:
        for entry in (KEYFRAME_ENTRY, CODED_ENTRY):
            with open_sealed(path, entry=entry) as file:
                if file.seal:
                    return file.seal
    except ValueError as error:
        raise _damaged(path, error) from None
    with open_tokens(path) as tokens:
        return tokens.info.seal


def _damaged(path: Path, reason: object) -> VidgenError:
    cause = " ".join(str(reason).split())[:160]
    return VidgenError(f"{path}: not a whole token file ({cause}); encode the clip again")


def _describe(path: Path, file: safe_open) -> TokenInfo:
    metadata = file.metadata() or {}
    if KEYFRAME_ENTRY in metadata:
        raise VidgenError(f"{path}: holds key frames and motion; name the model that made it, by --model FOLDER")
    if CODED_ENTRY in metadata:
        raise VidgenError(f"{path}: holds tokens that a prior has coded; name that, by --prior FOLDER")
    if metadata.get("format") != FORMAT:
        raise VidgenError(f"{path}: not a token file of vidgen; make one with `vidgen tokenizer encode`")
    try:
        slices = {name: file.get_slice(name) for name in file.keys()}
        shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
        if "seal" in metadata or "checksums" in metadata:
            seals = [header_seal(name, part.get_dtype(), shapes[name], metadata) for name, part in slices.items()]
            if [metadata.get("seal")] != seals:
                raise ValueError("its header is not as it was written")
        return _parse(metadata, shapes)
    except (KeyError, ValueError, SafetensorError) as error:
        raise _damaged(path, error) from None


def _parse(metadata: dict[str, str], shapes: dict[str, tuple[int, ...]]) -> TokenInfo:
    """Raises KeyError or ValueError for what is missing or makes no sense."""
    bits = int(metadata["bits"]) if "indices" in shapes else 0
    shape = shapes["indices" if bits else "latents"]
    if bits:
        grid = tuple(int(n) for n in metadata["index_shape"].split())
        row = -(-torch.Size(grid).numel() * bits // 8)
        if len(shape) != 2 or len(grid) not in (2, 3) or shape[1] != row or not 0 < bits < 63:
            raise ValueError(f"indices {shape} of {bits} bits, {row} bytes a frame wanted")
        shape = (1, shape[0], *grid)
    info = TokenInfo(
        num_frames=int(metadata["num_frames"]),
        height=int(metadata["height"]),
        width=int(metadata["width"]),
        fps=float(metadata["fps"]),
        tokenizer=metadata["tokenizer"],
        tokenizer_hash=metadata["tokenizer_hash"],
        shape=shape,
        bits=bits,
        codebook_size=int(metadata["codebook_size"]) if bits else 0,
        checksums=tuple(metadata.get("checksums", "").split()),
        seal=metadata.get("seal", ""),
        extra={k: v for k, v in metadata.items() if k not in NAMED + (NAMED_INDICES if bits else ())},
    )
    sound = min(info.num_frames, info.height, info.width) >= 1 and 0 < info.fps <= 1e6
    if not sound or 0 in shape or shape[0] != 1 or (not bits and len(shape) != 5):
        raise ValueError(f"tokens {shape} with {info.num_frames} frames at {info.fps} fps")
    return info
