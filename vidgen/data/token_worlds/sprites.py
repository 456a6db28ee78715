"""Binary sprites on a torus, and between walls where a coin decides: clips whose nats are those of their choices."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from vidgen.data.token_worlds.world import SPLITS, TokenClip, clip_generator, log_count, split_members, token_nats
from vidgen.errors import VidgenError

WAYS = ((0, 1), (1, 0), (0, -1), (-1, 0))
HELD_OUT = 4  # every so many sprites are kept for validation


@dataclass(frozen=True, kw_only=True)
class SpriteWorld:
    """Frames of `side` x `side` cells, 1 where the sprite is, else 0; a sprite is `sprite` x `sprite` random cells.

    A sprite's first row and first column are not empty, and it fills less than half of the side, so no two choices make
    the same clip. Of every four sprites one, at random, is held out. The nats of a training clip are those of the law
    that training draws from, which no prior comes below; those of a held-out one are of the law of all sprites, which a
    prior knows if it has learned what moves rather than which sprites there are.
    """

    frames: int = 4
    side: int = 8
    sprite: int = 3
    seed: int = 0
    context: int = field(default=0, init=False)
    codebook_size: int = field(default=2, init=False)

    def __post_init__(self) -> None:
        if not 2 <= self.sprite <= 4 or 2 * self.sprite > self.side - 1 or self.frames < 2:
            raise VidgenError(
                f"a sprite of {self.sprite} cells a side in frames of {self.side}, of which a clip has {self.frames}: "
                "give 2 to 4 cells, more than twice as many a side of the frame, and 2 frames or more"
            )

    @property
    def grid(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip, in tokens."""
        return self.frames, self.side, self.side

    @cached_property
    def sprites(self) -> Int[np.ndarray, "n k k"]:
        """All sprites."""
        k = self.sprite
        bits = (np.arange(2 ** (k * k))[:, None] >> np.arange(k * k)) & 1
        sprites = bits.reshape(-1, k, k)
        return sprites[sprites[:, 0].any(1) & sprites[:, :, 0].any(1)]

    @cached_property
    def shuffled(self) -> Int[np.ndarray, " n"]:
        """All sprites' numbers at random: their bits are the sprites' cells, and two of these would tell every fourth
        number."""
        return np.random.default_rng(HELD_OUT).permutation(len(self.sprites))

    def members(self, split: str) -> Int[np.ndarray, " m"]:
        """Return which sprites are of a split."""
        return self.shuffled[split_members(len(self.sprites), HELD_OUT, split)]

    def draw_sprite(self, rng: np.random.Generator, split: str) -> Int[np.ndarray, "k k"]:
        """Draw a sprite of the split."""
        return self.sprites[rng.choice(self.members(split))]

    def count_sprites(self, split: str) -> int:
        """Return among how many sprites the law chooses that a clip of the split is held against."""
        return len(self.members(split) if split == SPLITS[0] else self.sprites)

    def nats(self, log_probs: Float[np.ndarray, "t h w v"], tokens: Int[np.ndarray, "t h w"]) -> float:
        """Return the nats of a clip under a prior's law."""
        return token_nats(log_probs, tokens, self.context)

    def place(self, sprite: Int[np.ndarray, "k k"], corners: Int[np.ndarray, "t 2"]) -> Int[np.ndarray, "t h w"]:
        """Return the clip of a sprite whose upper left corner moves so; what leaves on one side enters on the other."""
        clip = np.zeros(self.grid, np.int64)
        rows, columns = np.indices(sprite.shape)
        for frame, (top, left) in zip(clip, corners, strict=True):
            frame[(top + rows) % self.side, (left + columns) % self.side] = sprite
        return clip


@dataclass(frozen=True, kw_only=True)
class TorusWorld(SpriteWorld):
    """A sprite that starts anywhere and goes on by one cell a frame, one of four ways, around the torus.

    nats = log(sprites) + log(side^2) + log(4).
    """

    def draw(self, number: int, split: str) -> TokenClip:
        """Return clip `number` of a split."""
        rng = clip_generator(self.seed, split, number)
        sprite, start, way = self.draw_sprite(rng, split), rng.integers(self.side, size=2), WAYS[rng.integers(4)]
        corners = start + np.arange(self.frames)[:, None] * np.array(way)
        return TokenClip(
            tokens=self.place(sprite, corners),
            nats=log_count(self.count_sprites(split), self.side, self.side, len(WAYS)),
        )


@dataclass(frozen=True, kw_only=True)
class CoinWorld(SpriteWorld):
    """A sprite that goes left or right by one cell a frame; at a wall it turns, and a coin says whether it goes up or
    down by one row, around the torus.

    nats = log(sprites) + log(starts) + log(2) + log(2) for each wall that it meets: an entropy rate.
    """

    frames: int = 8

    def draw(self, number: int, split: str) -> TokenClip:
        """Return clip `number` of a split."""
        rng = clip_generator(self.seed, split, number)
        sprite, places = self.draw_sprite(rng, split), self.side - self.sprite + 1
        corner, step, turns = [int(rng.integers(self.side)), int(rng.integers(places))], 1 - 2 * int(rng.integers(2)), 0
        corners = [tuple(corner)]
        for _ in range(self.frames - 1):
            if not 0 <= corner[1] + step < places:
                step, turns = -step, turns + 1
                corner[0] += 1 - 2 * int(rng.integers(2))
            else:
                corner[1] += step
            corners.append(tuple(corner))
        nats = log_count(self.count_sprites(split), self.side, places, 2, *([2] * turns))
        return TokenClip(tokens=self.place(sprite, np.array(corners)), nats=nats)
