"""How each kind of tokenizer codes clips for `encode`, `decode` and `reconstruct`: to pieces and files, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vidgen.errors import VidgenError
from vidgen.scripts.cli.memory import FRAME_BYTES, make_planner

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.scripts.cli.option_sets import FastHardwareOptions
    from vidgen.tokenizers.files.token_writing import Author
    from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
    from vidgen.tokenizers.model import VideoTokenizer
    from vidgen.tokenizers.streaming.chunks import Planner
    from vidgen.tokenizers.streaming.memory_plan import Task

Opened = tuple[Any, Callable[[int, int], Iterator["Tensor"]]]  # what a file says, and its frames from one to another


class Codec(Protocol):
    """Clips of one tokenizer as pieces and files. Pixels are (3, k, h, w) in [-1, 1]."""

    tokenizer: Any
    author: Author

    def check_size(self, height: int, width: int) -> None:
        """Raise VidgenError for frames of a size that memory does not hold, before one is made."""

    def encode(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Yield a clip's tokens in pieces."""

    def writing(self, target: Path) -> AbstractContextManager[Any]:
        """Open a writer of a file that takes the pieces by `add`, and then `finish`."""

    def opened(self, path: Path) -> AbstractContextManager[Opened]:
        """Open a file for decoding. Raises VidgenError for one that is damaged, or of another tokenizer."""

    def reconstruct(self, frames: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (original, reconstruction) in pieces."""


class LatentCodec:
    """Clips as latent frames, in chunks and tiles of `planner`."""

    def __init__(self, tokenizer: VideoTokenizer, planner: Planner) -> None:
        self.tokenizer, self.planner = tokenizer, planner

    @cached_property
    def author(self) -> Author:
        """The name and hash that files are written under."""
        from vidgen.tokenizers.files.token_writing import Author

        return Author.of(self.tokenizer)

    def check_size(self, height: int, width: int) -> None:
        """Raise VidgenError for frames of which no chunk fits."""
        self.planner(self.tokenizer, height, width)

    def encode(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Yield a clip's latents and indices in pieces."""
        from vidgen.tokenizers.streaming.chunks import encode_tokens

        return encode_tokens(self.tokenizer, frames, self.planner)

    def writing(self, target: Path) -> AbstractContextManager[Any]:
        """Open a `TokenWriter`."""
        from vidgen.tokenizers.files.token_writing import writing_tokens

        return writing_tokens(target, self.author)

    @contextmanager
    def opened(self, path: Path) -> Iterator[Opened]:
        """Open a token file, of which no more is read than what is decoded."""
        from vidgen.tokenizers.files.token_files import open_tokens
        from vidgen.tokenizers.streaming.chunks import decode_stream

        with open_tokens(path, self.tokenizer, own_hash=self.author.hash) as tokens:
            size = {name: getattr(tokens.info, name) for name in ("num_frames", "height", "width")}
            yield (
                tokens.info,
                lambda start, stop: decode_stream(
                    self.tokenizer,
                    lambda low, high: tokens.for_tokenizer(self.tokenizer, low, high),
                    **size,
                    start=start,
                    stop=stop,
                    plan=self.planner,
                ),
            )

    def reconstruct(self, frames: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (original, reconstruction) chunk by chunk."""
        from vidgen.tokenizers.streaming.chunks import reconstruct_stream

        return reconstruct_stream(self.tokenizer, frames, self.planner)


class KeyframeCodec:
    """Clips as key frames and motion, group by group."""

    def __init__(self, tokenizer: KeyframeTokenizer) -> None:
        self.tokenizer = tokenizer

    author = LatentCodec.author

    def check_size(self, height: int, width: int) -> None:
        """Raise VidgenError where one frame does not fit."""
        from vidgen.checkpoints.memory import check_bytes

        check_bytes(FRAME_BYTES * height * width, f"a frame of {height}x{width}", "make it smaller (--size)")

    def encode(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Yield a clip's codes, some groups at a time."""
        from vidgen.tokenizers.keyframes.files import encode_groups

        return (codes for _, codes in encode_groups(self.tokenizer, frames))

    def writing(self, target: Path) -> AbstractContextManager[Any]:
        """Open a `KeyframeWriter`."""
        from vidgen.tokenizers.keyframes.files import writing_codes

        return writing_codes(target, self.tokenizer, self.author.hash)

    @contextmanager
    def opened(self, path: Path) -> Iterator[Opened]:
        """Open a file of key frames and motion, of which all is read: it is small."""
        from vidgen.tokenizers.keyframes.files import decode_groups, read_codes

        file = read_codes(path, self.tokenizer, own_hash=self.author.hash)
        yield file, lambda start, stop: decode_groups(self.tokenizer, file.codes, start, stop)

    def reconstruct(self, frames: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (original, reconstruction), some groups at a time."""
        from vidgen.tokenizers.keyframes.files import reconstruct_groups

        return reconstruct_groups(self.tokenizer, frames)


def open_codec(model: str, hardware: FastHardwareOptions, limit: int | None, task: Task) -> Codec:
    """Return the codec of the tokenizer of that name, within `limit` bytes of memory where that is not None.

    Raises VidgenError if there is none, and for a limit that it cannot be held to.
    """
    from vidgen.pipelines.loading import find_class, load_tokenizer
    from vidgen.tokenizers.keyframes.model import KeyframeTokenizer

    settings = hardware.settings()
    if find_class(model) != KeyframeTokenizer.__name__:
        tokenizer = load_tokenizer(model, **settings)
        return LatentCodec(tokenizer, make_planner(tokenizer, limit, task))
    if limit is not None:
        raise VidgenError("--max-memory: key frames and motion go through in groups of whole frames; leave it out")
    return KeyframeCodec(KeyframeTokenizer.from_pretrained(model, **settings))
