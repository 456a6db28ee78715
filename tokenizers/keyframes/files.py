"""Files of key frames and motion: what a KeyframeTokenizer makes of a clip, and what gives the clip back.

Each part is a tensor of its own, `key` and `motion`: packed indices of a discrete bottleneck, one row a frame, else
latents. Groups of frames stand alone, so that a part of a clip is decoded from its groups.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.seals import open_sealed, save_sealed
from vidgen.tokenizers.bottlenecks import Quantizer
from vidgen.tokenizers.encoded import latent_size
from vidgen.tokenizers.files.index_packing import bits_for, pack_indices, unpack_indices
from vidgen.tokenizers.files.token_files import KEYFRAME_ENTRY, tokenizer_hash
from vidgen.tokenizers.keyframes.codes import KeyframeCodes, check_codes, count_keys, join_codes
from vidgen.tokenizers.keyframes.model import PIXELS_AT_ONCE, KeyframeTokenizer
from vidgen.tokenizers.streaming.chunks import to_pixels


@dataclass(frozen=True, kw_only=True)
class KeyframeFile:
    """A clip as it is in a file: its codes, frames a second, and the name and hash of the tokenizer."""

    codes: KeyframeCodes
    fps: float
    tokenizer: str
    tokenizer_hash: str

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return self.codes.num_frames

    @property
    def height(self) -> int:
        """Pixels of a column."""
        return self.codes.height

    @property
    def width(self) -> int:
        """Pixels of a row."""
        return self.codes.width


def stack_groups(frames: Iterable[UInt8[np.ndarray, "h w 3"]], gop: int) -> Iterator[Float[Tensor, "1 3 k h w"]]:
    """Yield pieces of whole groups, so many as go through at once. The last one may end within a group."""
    frames = iter(frames)
    first = next(frames, None)
    while first is not None:
        count = max(1, PIXELS_AT_ONCE // (first.shape[0] * first.shape[1]) // gop) * gop
        stacked = np.stack([first, *islice(frames, count - 1)])
        yield to_tensor(stacked)[None]
        first = next(frames, None)


@torch.inference_mode()
def encode_groups(
    tokenizer: KeyframeTokenizer, frames: Iterable[UInt8[np.ndarray, "h w 3"]]
) -> Iterator[tuple[Float[Tensor, "3 k h w"], KeyframeCodes]]:
    """Yield pieces of a clip with their codes; `join_codes` of all are those of `encode`."""
    for piece in stack_groups(frames, tokenizer.config.gop):
        piece = piece.to(tokenizer.device)
        yield piece[0], replace(tokenizer.encode(piece), losses={})


@torch.inference_mode()
def decode_groups(
    tokenizer: KeyframeTokenizer, codes: KeyframeCodes, start: int = 0, stop: int | None = None
) -> Iterator[Float[Tensor, "3 k H W"]]:
    """Yield frames `start` to `stop` (None: the end) of a clip, in [-1, 1], from no more groups than hold them."""
    gop = tokenizer.config.gop
    stop = codes.num_frames if stop is None else stop
    step = max(1, PIXELS_AT_ONCE // (codes.height * codes.width) // gop) * gop
    for low in range(start // gop * gop, stop, step):
        part = cut_codes(codes, low, min(low + step, codes.num_frames), gop)
        frames = to_pixels(tokenizer.decode(part)[0])[:, max(0, start - low) : stop - low]
        if frames.shape[1]:
            yield frames


def reconstruct_groups(
    tokenizer: KeyframeTokenizer, frames: Iterable[UInt8[np.ndarray, "h w 3"]]
) -> Iterator[tuple[Float[Tensor, "3 k h w"], Float[Tensor, "3 k h w"]]]:
    """Yield (original, reconstruction) of pieces of a clip, pixels in [-1, 1]."""
    for original, codes in encode_groups(tokenizer, frames):
        with torch.inference_mode():
            decoded = to_pixels(tokenizer.decode(codes)[0])
        yield original, decoded


def cut_codes(codes: KeyframeCodes, start: int, stop: int, gop: int) -> KeyframeCodes:
    """Return frames `start`, which is a key frame, to `stop` of a clip."""
    first = start // gop
    count = count_keys(stop - start, gop)
    moving = slice(start - first, stop - first - count)
    return KeyframeCodes(
        key_latents=codes.key_latents[:, :, first : first + count],
        motion_latents=codes.motion_latents[:, :, moving],
        num_frames=stop - start,
        height=codes.height,
        width=codes.width,
    )


class KeyframeWriter:
    """Takes the codes of one clip in order, and then what is to be said of the clip; from `writing_codes`."""

    def __init__(self, target: Path, tokenizer: KeyframeTokenizer, own_hash: str) -> None:
        self._target, self._tokenizer, self._hash = target, tokenizer, own_hash
        self._parts: list[KeyframeCodes] = []
        self.payload = 0  # bits of the tokens
        self.shapes: dict[str, list[int]] = {}
        self.seal = ""

    def add(self, codes: KeyframeCodes) -> None:
        """Add the next groups of the clip."""
        self._parts.append(codes)

    def finish(
        self, *, num_frames: int, height: int, width: int, fps: float, extra: Mapping[str, Any] | None = None
    ) -> None:
        """Write the file. Raises ValueError if no codes were added."""
        codes = join_codes(self._parts, self._tokenizer.config.gop)
        tensors = {}
        for part, latents, indices, bottleneck in parts_of(codes, self._tokenizer):
            if isinstance(bottleneck, Quantizer):
                bits = bits_for(bottleneck.codebook_size)
                rows = indices[0].flatten(1)
                tensors[part] = pack_indices(rows, bits) if len(rows) else rows.new_zeros(0, 1, dtype=torch.uint8)
                self.payload += bits * indices.numel()
                self.shapes[f"{part}_indices"] = list(indices.shape[1:])
            else:
                wide = torch.float32 if latents.dtype == torch.bfloat16 else latents.dtype  # NumPy has no bfloat16
                tensors[part] = latents.cpu().to(wide)
                self.payload += 8 * latents.element_size() * latents.numel()
                self.shapes[f"{part}_latents"] = list(latents.shape[1:])
        about = {**(extra or {}), "tokenizer": self._tokenizer.config.name, "tokenizer_hash": self._hash}
        about |= {"num_frames": num_frames, "height": height, "width": width, "fps": float(fps)}
        self.seal = save_sealed(tensors, self._target, about, entry=KEYFRAME_ENTRY)


def parts_of(codes: KeyframeCodes, tokenizer: KeyframeTokenizer) -> list[tuple[str, Tensor, Tensor | None, Any]]:
    """Return (name, latents, indices, bottleneck) of key frames and of motion."""
    return [
        ("key", codes.key_latents, codes.key_indices, tokenizer.key.bottleneck),
        ("motion", codes.motion_latents, codes.motion_indices, tokenizer.bottleneck),
    ]


@contextmanager
def writing_codes(path: str | os.PathLike, tokenizer: KeyframeTokenizer, own_hash: str) -> Iterator[KeyframeWriter]:
    """Open a writer of a file that stands at `path` once it is finished, or not at all; `own_hash` is
    `tokenizer_hash(tokenizer)`. Raises VidgenError if `path` cannot be written."""
    with atomic_write(path) as target:
        yield KeyframeWriter(target, tokenizer, own_hash)


def holds_key_frames(path: Path) -> bool:
    """Return whether a file is one of key frames and motion, by its header."""
    try:
        with open_sealed(path, entry=KEYFRAME_ENTRY) as file:
            return "fps" in file.about
    except ValueError:
        return False


def read_codes(path: str | os.PathLike, tokenizer: KeyframeTokenizer, *, own_hash: str | None = None) -> KeyframeFile:
    """Read a file of key frames and motion.

    Raises VidgenError for one that is missing, damaged or of another kind, or written for another tokenizer.
    """
    path = Path(path)
    try:
        with open_sealed(path, entry=KEYFRAME_ENTRY) as file:
            about = file.about
            if "fps" not in about or file.names != ["key", "motion"]:
                raise ValueError("it holds no key frames and motion")
            own = own_hash or tokenizer_hash(tokenizer)
            if own != about["tokenizer_hash"]:
                raise VidgenError(
                    f"{path}: written for {about['tokenizer']} ({about['tokenizer_hash'][:12]}), and this one is "
                    f"{tokenizer.config.name} ({own[:12]}); decode it with the model that it was made with"
                )
            arrays = {name: file.read(name) for name in file.names}
            for name, x in arrays.items():
                file.check(name, x)
        codes = unpack_codes({name: torch.from_numpy(x) for name, x in arrays.items()}, about, tokenizer)
        identity = {name: about[name] for name in ("fps", "tokenizer", "tokenizer_hash")}
    except (ValueError, KeyError, TypeError) as error:
        raise VidgenError(f"{path}: no whole file of key frames ({error}); encode the clip again") from None
    return KeyframeFile(codes=codes, **identity)


def unpack_codes(
    tensors: Mapping[str, Tensor], about: Mapping[str, Any], tokenizer: KeyframeTokenizer
) -> KeyframeCodes:
    """Return the codes in a file's tensors. Raises ValueError for tensors that are not of such a clip."""
    config = tokenizer.config
    size = {name: about[name] for name in ("num_frames", "height", "width")}
    if not all(isinstance(value, int) and value > 0 for value in size.values()) or not 0 < about["fps"] <= 1e6:
        raise ValueError(f"{size} at {about['fps']} fps are no clip")
    keys = count_keys(size["num_frames"], config.gop)
    counts = {"key": keys, "motion": size["num_frames"] - keys}
    cells = {"key": config.key.spatial_compression_ratio, "motion": config.block}
    readers = {"key": tokenizer.key.latents_from_indices, "motion": tokenizer.motion_from_indices}
    values: dict[str, Tensor] = {}
    for part, bottleneck in (("key", tokenizer.key.bottleneck), ("motion", tokenizer.bottleneck)):
        x = tensors[part]
        if isinstance(bottleneck, Quantizer):
            books = () if bottleneck.quantizers is None else (bottleneck.quantizers,)
            grid = (*latent_size(size["height"], size["width"], cells[part]), *books)
            if len(x) != counts[part]:
                raise ValueError(f"{len(x)} frames of {part}, {counts[part]} wanted")
            if not len(x):
                x = torch.zeros(0, *grid, dtype=torch.int64)
            else:
                x = unpack_indices(x, bits_for(bottleneck.codebook_size), torch.Size(grid).numel())
            x = x.reshape(1, len(x), *grid).to(tokenizer.device)
            values[f"{part}_indices"] = x
            x = readers[part](x)
        if not bool(x.isfinite().all()):
            raise ValueError(f"{part} has latents that are not finite")
        values[f"{part}_latents"] = x.to(tokenizer.device, tokenizer.dtype)
    codes = KeyframeCodes(**values, **size)
    check_codes(codes, config)
    return codes
