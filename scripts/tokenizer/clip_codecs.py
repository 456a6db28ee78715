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

    from vidgen.pipelines.priors.coded_files import CodedReader
    from vidgen.pipelines.priors.coding import PriorCoder
    from vidgen.scripts.cli.option_sets import FastHardwareOptions
    from vidgen.tokenizers.files.token_files import TokenReader
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
    settings: dict[str, str]  # what else the files of a clip depend on

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

    @property
    def settings(self) -> dict[str, str]:
        """The precision."""
        return {"dtype": str(self.tokenizer.dtype)}

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

        with open_tokens(path, self.tokenizer, own_hash=self.author.hash) as tokens:
            yield tokens.info, self.decoding(tokens)

    def decoding(self, tokens: TokenReader | CodedReader) -> Callable[[int, int], Iterator[Tensor]]:
        """Return what decodes frames of an open file, from one to another."""
        from vidgen.tokenizers.streaming.chunks import decode_stream

        size = {name: getattr(tokens.info, name) for name in ("num_frames", "height", "width")}
        return lambda start, stop: decode_stream(
            self.tokenizer,
            lambda low, high: tokens.for_tokenizer(self.tokenizer, low, high),
            **size,
            start=start,
            stop=stop,
            plan=self.planner,
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
    settings = LatentCodec.settings

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


class CodedCodec(LatentCodec):
    """The same, in files that a prior codes; those without a prior are decoded too.

    Raises VidgenError for a prior of another tokenizer's indices.
    """

    def __init__(self, tokenizer: VideoTokenizer, planner: Planner, coder: PriorCoder) -> None:
        super().__init__(tokenizer, planner)
        self.coder = coder
        if self.author.hash != coder.tokenizer_hash:
            raise VidgenError(
                f"{coder.name}: a prior over indices of the tokenizer {coder.tokenizer_hash[:12]}, and --model is "
                f"{self.author.name} ({self.author.hash[:12]}); leave --model out, which takes the prior's own"
            )

    @property
    def settings(self) -> dict[str, str]:
        """The precision, and the prior."""
        return super().settings | {"prior": self.coder.hash}

    def writing(self, target: Path) -> AbstractContextManager[Any]:
        """Open a `CodedWriter`."""
        from vidgen.pipelines.priors.coded_files import writing_coded

        return writing_coded(target, self.author, self.coder)

    @contextmanager
    def opened(self, path: Path) -> Iterator[Opened]:
        """Open a file of either kind."""
        from vidgen.pipelines.priors.coded_files import CodedReader, holds_coded, read_coded

        if holds_coded(path):
            tokens = CodedReader(read_coded(path), self.tokenizer, self.coder, own_hash=self.author.hash)
            yield tokens.info, self.decoding(tokens)
            return
        with super().opened(path) as plain:
            yield plain


def choose_model(model: str, prior: str | None) -> str:
    """Return the name of the tokenizer that is asked for: beside a prior, "default" is the prior's own."""
    return prior if prior is not None and model == "default" else model


def open_coder(name: str) -> PriorCoder:
    """Return the coder of a folder that task `prior` has made: in float32 on the processor, wherever the tokenizer
    runs, so that files do not depend on it. Raises VidgenError if it is none."""
    import torch

    from vidgen.pipelines.priors.coding import PriorCoder
    from vidgen.pipelines.priors.pipeline import PriorPipeline

    return PriorCoder(PriorPipeline.from_pretrained(name, dtype=torch.float32), name)


def named_prior(path: Path) -> str | None:
    """Return the prior that a file, or the first coded one of a folder's index, says that it was coded by; None where
    none was. Raises VidgenError where no such folder is here."""
    from vidgen.checkpoints.hub import SHIPPED
    from vidgen.pipelines.priors.coded_files import coded_by
    from vidgen.tokenizers.files.token_folders import read_index

    files = [path / row.path for row in read_index(path)] if path.is_dir() else [path]
    for file in files:
        if (names := coded_by(file)) is None:
            continue
        name, own_hash = names
        if not Path(name).is_dir() and not (SHIPPED / name).is_dir():
            raise VidgenError(f"{file}: coded by the prior {name} ({own_hash[:12]}); name it, by --prior FOLDER")
        return name
    return None


def open_codec(
    model: str, hardware: FastHardwareOptions, limit: int | None, task: Task, prior: str | None = None
) -> Codec:
    """Return the codec of the tokenizer of that name, within `limit` bytes of memory where that is not None. With a
    `prior` its files are coded by that, and "default" is the prior's own tokenizer.

    Raises VidgenError if there is none, and for a limit or a prior that it cannot be held to.
    """
    from vidgen.pipelines.loading import find_class, load_tokenizer
    from vidgen.tokenizers.keyframes.model import KeyframeTokenizer

    settings = hardware.settings()
    model = choose_model(model, prior)
    coder = None if prior is None else open_coder(prior)
    if find_class(model) != KeyframeTokenizer.__name__:
        tokenizer = load_tokenizer(model, **settings)
        planner = make_planner(tokenizer, limit, task)
        return LatentCodec(tokenizer, planner) if coder is None else CodedCodec(tokenizer, planner, coder)
    if coder is not None:
        raise VidgenError(f"--prior {prior}: {model} makes key frames and motion, which no prior codes; leave it out")
    if limit is not None:
        raise VidgenError("--max-memory: key frames and motion go through in groups of whole frames; leave it out")
    return KeyframeCodec(KeyframeTokenizer.from_pretrained(model, **settings))
