"""Files of tokens coded by a prior: a clip's indices in the bits that its prior needs, and what gives the clip back.

The stream is one tensor, `coded`. Beside it stand the hashes of tokenizer and prior, the clip's size, the checksum of
every latent frame as in a plain token file, and the arithmetic that the probabilities came from: a file of other
weights is refused, and one that another arithmetic decodes otherwise is found out at the first latent frame that
differs, rather than shown. A part of a clip takes decoding of all that comes before it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.data.text_files import readable
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.seals import open_sealed, save_sealed
from vidgen.interfaces import Tokenizer
from vidgen.models.priors.coding import TokenDecoder, TokenEncoder, describe_arithmetic
from vidgen.pipelines.priors.coding import PriorCoder
from vidgen.tokenizers.files.index_packing import bits_for, pack_indices
from vidgen.tokenizers.files.token_files import CODED_ENTRY, TokenInfo, check_tokenizer, frame_checksums
from vidgen.tokenizers.files.token_writing import Author
from vidgen.tokenizers.streaming.chunks import Tokens

VERSION = 1
STREAM = "coded"


@dataclass(frozen=True, kw_only=True)
class CodedClip:
    """A file as it was read: what it says of its clip and of its prior, and the stream. `piece` is in latent frames."""

    path: Path
    info: TokenInfo
    prior: str
    prior_hash: str
    piece: int
    arithmetic: dict[str, str]
    stream: bytes


class CodedWriter:
    """Takes the tokens of one clip in order, and then what is to be said of the clip; from `writing_coded`."""

    def __init__(self, target: Path, author: Author, coder: PriorCoder) -> None:
        self._target, self._author, self._coder = target, author, coder
        self._encoder: TokenEncoder | None = None
        self._grid: tuple[int, ...] = ()
        self._checksums: list[str] = []
        self.payload = 0  # bits of the stream, once it is written
        self.seal = ""

    def add(self, tokens: Tokens) -> None:
        """Add the next latent frames of the clip."""
        indices = tokens.indices.cpu()
        if self._encoder is None:
            self._grid = tuple(indices.shape[2:])
            self._encoder = TokenEncoder(self._coder.law(self._grid[:2]))
        self._checksums += checksums_of(indices, bits_for(self._author.codebook_size))
        self._encoder.add(self._coder.pipe.tokens_of(indices)[0])

    @property
    def shapes(self) -> dict[str, list[int]]:
        """The shape of the indices, by name."""
        return {"indices": [len(self._checksums), *self._grid]}

    def finish(
        self, *, num_frames: int, height: int, width: int, fps: float, extra: Mapping[str, str] | None = None
    ) -> None:
        """Write the file. Raises ValueError if no tokens were added."""
        if self._encoder is None:
            raise ValueError("a token file needs at least one latent frame, got none")
        stream = np.frombuffer(self._encoder.finish(), np.uint8).copy()
        self.payload = 8 * len(stream)
        about = {
            "version": VERSION,
            "tokenizer": self._author.name,
            "tokenizer_hash": self._author.hash,
            "prior": readable(self._coder.name),
            "prior_hash": self._coder.hash,
            "piece": self._coder.piece,
            "arithmetic": describe_arithmetic(self._coder.prior),
            "num_frames": num_frames,
            "height": height,
            "width": width,
            "fps": float(fps),
            "codebook_size": self._author.codebook_size,
            "index_shape": self.shapes["indices"],
            "checksums": " ".join(self._checksums),
            "extra": {name: readable(str(value)) for name, value in (extra or {}).items()},
        }
        self.seal = save_sealed({STREAM: torch.from_numpy(stream)}, self._target, about, entry=CODED_ENTRY)


def checksums_of(indices: Int[Tensor, "1 t h w"] | Int[Tensor, "1 t h w q"], bits: int) -> list[str]:
    """Return the checksum of each latent frame, which is that of its row in a plain token file."""
    return frame_checksums(pack_indices(indices[0].flatten(1), bits))


@contextmanager
def writing_coded(path: str | os.PathLike, author: Author, coder: PriorCoder) -> Iterator[CodedWriter]:
    """Open a writer of a file that stands at `path` once it is finished, or not at all. Raises VidgenError if `path`
    cannot be written."""
    with atomic_write(path) as target:
        yield CodedWriter(target, author, coder)


def coded_by(path: Path) -> tuple[str, str] | None:
    """Return the name and hash of the prior that a file says it was coded by, by its header; None for other files."""
    try:
        with open_sealed(path, entry=CODED_ENTRY) as file:
            names = (file.about.get("prior"), file.about.get("prior_hash"))
    except ValueError:
        return None
    return None if None in names else (str(names[0]), str(names[1]))


def holds_coded(path: Path) -> bool:
    """Return whether a file is one of tokens coded by a prior, by its header."""
    return coded_by(path) is not None


def read_coded(path: str | os.PathLike) -> CodedClip:
    """Read a file, of which nothing is decoded yet. Raises VidgenError for one that is missing, damaged or of another
    kind."""
    path = Path(path)
    try:
        with open_sealed(path, entry=CODED_ENTRY) as file:
            if file.about.get("version") != VERSION or file.names != [STREAM]:
                raise ValueError("it holds no tokens of this version that a prior has coded")
            stream = file.read(STREAM)
            file.check(STREAM, stream)
            if stream.dtype != np.uint8 or len(stream) % 4:
                raise ValueError("its stream is not in words of 32 bits")
            return parse_coded(path, file.about, file.seal, stream.tobytes())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cause = " ".join(str(error).split())[:160]
        raise VidgenError(f"{path}: not a whole file of coded tokens ({cause}); encode the clip again") from None


def parse_coded(path: Path, about: dict[str, Any], seal: str, stream: bytes) -> CodedClip:
    """Raises KeyError, ValueError or TypeError for what is missing or makes no sense."""
    shape = tuple(about["index_shape"])
    checksums = tuple(about["checksums"].split())
    counts = (*shape, about["num_frames"], about["height"], about["width"], about["codebook_size"])
    if not all(isinstance(count, int) and count > 0 for count in counts) or len(shape) not in (3, 4):
        raise ValueError(f"indices {shape} of {about['num_frames']} frames")
    if not 0 < about["fps"] <= 1e6 or len(checksums) != shape[0] or not isinstance(about["piece"], int):
        raise ValueError(f"{len(checksums)} checksums of {shape[0]} latent frames at {about['fps']} fps")
    named = {name: about[name] for name in ("num_frames", "height", "width", "fps", "tokenizer", "tokenizer_hash")}
    codes = {"bits": bits_for(about["codebook_size"]), "codebook_size": about["codebook_size"]}
    info = TokenInfo(**named, **codes, shape=(1, *shape), checksums=checksums, seal=seal, extra=dict(about["extra"]))
    by = {"prior": str(about["prior"]), "prior_hash": str(about["prior_hash"]), "piece": max(0, about["piece"])}
    return CodedClip(path=path, info=info, **by, arithmetic=dict(about["arithmetic"]), stream=stream)


class CodedReader:
    """The latent frames of a file, which are decoded up to the last one that was asked for, and kept.

    Raises VidgenError for a file of another tokenizer or another prior.

    Args:
        clip: The file.
        tokenizer: What its clip is decoded by.
        coder: What it was coded by.
        own_hash: `tokenizer_hash(tokenizer)`, where it is there already.
    """

    def __init__(
        self, clip: CodedClip, tokenizer: Tokenizer, coder: PriorCoder, *, own_hash: str | None = None
    ) -> None:
        check_tokenizer(clip.path, clip.info, tokenizer, own_hash)
        if clip.prior_hash != coder.hash:
            raise VidgenError(
                f"{clip.path}: coded by the prior {clip.prior} ({clip.prior_hash[:12]}), and {coder.name} is "
                f"({coder.hash[:12]}); decode it with the prior that it was made with"
            )
        self.clip, self.info, self.coder = clip, clip.info, coder
        size = clip.info.shape[2:4]
        self._decoder = TokenDecoder(coder.law(size, clip.piece), clip.stream)
        self._indices = torch.zeros(clip.info.shape, dtype=torch.int64)
        self.done = 0  # latent frames

    def indices(self, start: int, stop: int) -> Int[Tensor, "1 t h w"] | Int[Tensor, "1 t h w q"]:
        """Return the indices of latent frames `start` to `stop`.

        Raises VidgenError for a latent frame that does not come out as it was coded.
        """
        pipe = self.coder.pipe
        for number in range(self.done, stop):
            tokens = self._decoder.read(self._decoder.law.frame_tokens)
            frame = pipe.indices_of(tokens[None], (1, *self.info.shape[2:4]))
            if checksums_of(frame, self.info.bits) != [self.info.checksums[number]]:
                raise VidgenError(f"{self.clip.path}: latent frame {number} {self._explain()}")
            self._indices[:, number] = frame[:, 0]
            self.done = number + 1
        return self._indices[:, start:stop]

    def for_tokenizer(self, tokenizer: Tokenizer, start: int, stop: int) -> Float[Tensor, "1 c t h w"]:
        """Return latents to decode."""
        return tokenizer.latents_from_indices(self.indices(start, stop).to(tokenizer.device))

    def _explain(self) -> str:
        own = describe_arithmetic(self.coder.prior)
        then = self.clip.arithmetic
        changes = [f"{name} {then.get(name)}, here {own[name]}" for name in own if then.get(name) != own[name]]
        return (
            f"does not come out as it was coded: the prior's arithmetic differs ({'; '.join(changes) or 'processor'}); "
            "decode where it was encoded, or encode the clip again"
        )
