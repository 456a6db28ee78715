"""Reducers of tokens by name: "merge:0.2" is one with its number, as `vidgen extract --reduce` takes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder, Pipeline
from vidgen.models.encoders.memory_consolidation import ConsolidatingEncoder, ConsolidationConfig
from vidgen.models.encoders.reduced import ReducedEncoder
from vidgen.models.encoders.token_merging import MergingConfig, MergingEncoder
from vidgen.models.encoders.token_selection import select
from vidgen.models.encoders.video_vit import VideoViT


@dataclass(frozen=True)
class Reducer:
    """What makes the reduced encoder of an encoder and a number, what the number is, and the numbers that a curve is
    drawn at."""

    make: Callable[[VideoViT, float], ReducedEncoder]
    number: str
    curve: tuple[float, ...]


def merge(encoder: VideoViT, ratio: float, *, saliency: bool) -> MergingEncoder:
    """Return an encoder that merges this share of its tokens before every block."""
    return MergingEncoder(encoder, MergingConfig(ratio=ratio, saliency=saliency))


def remember(encoder: VideoViT, keep: float, method: str) -> ConsolidatingEncoder:
    """Return an encoder that reads segments as long as its clips of training, and remembers this share of each."""
    return ConsolidatingEncoder(encoder, ConsolidationConfig(keep=keep, method=method))


MERGED, READ = "share of the tokens left that merges before each block", "share of the tokens that is read"
REMEMBERED = "share of a segment's tokens that is remembered, of clips longer than those of training"
MERGES, READS, REMEMBERS = (0.1, 0.2, 0.3), (0.75, 0.5, 0.25), (0.25, 0.1, 0.02)
REDUCERS: dict[str, Reducer] = {
    "merge": Reducer(lambda encoder, n: merge(encoder, n, saliency=False), MERGED, MERGES),
    "salient": Reducer(lambda encoder, n: merge(encoder, n, saliency=True), MERGED, MERGES),
    "tokens": Reducer(lambda encoder, n: select(encoder, n, "token"), READ, READS),
    "frames": Reducer(lambda encoder, n: select(encoder, n, "frame"), READ, READS),
    "tubes": Reducer(lambda encoder, n: select(encoder, n, "tube"), READ, READS),
    "random": Reducer(lambda encoder, n: select(encoder, n, "token", "random"), READ, READS),
    "memory": Reducer(lambda encoder, n: remember(encoder, n, "kmeans"), REMEMBERED, REMEMBERS),
    "memory-coreset": Reducer(lambda encoder, n: remember(encoder, n, "coreset"), REMEMBERED, REMEMBERS),
    "memory-random": Reducer(lambda encoder, n: remember(encoder, n, "random"), REMEMBERED, REMEMBERS),
}


def reduce_encoder(model: Pipeline | Encoder, text: str) -> ReducedEncoder:
    """Return an encoder reduced as "NAME:NUMBER" says, of `REDUCERS`.

    Raises VidgenError for another text, a number that the reducer cannot have, and models that are no `VideoViT`.
    """
    name, colon, number = text.partition(":")
    if name not in REDUCERS or not colon:
        raise VidgenError(f"{text!r} is no reduction; give NAME:NUMBER, NAME one of {', '.join(REDUCERS)}")
    try:
        value = float(number)
    except ValueError:
        raise VidgenError(f"{text!r}: {number!r} is no number; {name} takes the {REDUCERS[name].number}") from None
    if not isinstance(model, VideoViT):
        raise VidgenError(
            f"{text!r} reduces an encoder of `vidgen train ssl/NAME`, and this is a {type(model).__name__}"
        )
    try:
        return REDUCERS[name].make(model, value)
    except VidgenError as error:
        raise VidgenError(f"{text!r}, of the {REDUCERS[name].number}: {error}") from None
