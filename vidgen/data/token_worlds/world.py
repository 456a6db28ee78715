"""What a world of tokens is: clips by their number, and the nats that the law of each takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int

SPLITS = ("train", "held_out")


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenClip:
    """Tokens of a clip, and the `nats` -log p of those after the first `context` frames, given these, under its law."""

    tokens: Int[np.ndarray, "t h w"]
    nats: float


class TokenWorld(Protocol):
    """An endless world: `world.draw(number, split)` is the same clip every time. Splits have no sprite in common.

    `grid` (t, h, w); `codebook_size` values of a token; `context`: frames that are known.
    """

    grid: tuple[int, int, int]
    codebook_size: int
    context: int

    def draw(self, number: int, split: str) -> TokenClip: ...

    def nats(self, log_probs: Float[np.ndarray, "t h w v"], tokens: Int[np.ndarray, "t h w"]) -> float: ...


def token_nats(log_probs: Float[np.ndarray, "t h w v"], tokens: Int[np.ndarray, "t h w"], context: int) -> float:
    """Return -log p of the tokens after `context` frames, in nats."""
    chosen = np.take_along_axis(log_probs, tokens[..., None], axis=-1)[..., 0]
    return float(-chosen[context:].sum())


def clip_generator(seed: int, split: str, number: int) -> np.random.Generator:
    """Return the random numbers of a clip, which others share nothing with."""
    key = (SPLITS.index(split), number)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def split_members(count: int, every: int, split: str) -> Int[np.ndarray, " m"]:
    """Return which of `count` sprites or pictures are of a split: every so many are held out, the others trained on."""
    return np.flatnonzero((np.arange(count) % every == 0) == (split == SPLITS[1]))


def log_count(*choices: int) -> float:
    """Return the nats of independent choices among so many equals."""
    return sum(math.log(count) for count in choices)
