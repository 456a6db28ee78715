"""Procedures whose law is known: a label follows another where a graph has an edge, each of its edges as often."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from vidgen.data.token_worlds.world import SPLITS, TokenClip, clip_generator, log_count, split_members, token_nats
from vidgen.errors import VidgenError

HELD_OUT = 4  # every so many procedures are kept for validation
MOST_PROCEDURES = 2**20


@dataclass(frozen=True, kw_only=True)
class ProcedureWorld:
    """Sequences of `steps` labels of actions: any of `labels` begins, and each is followed by one of `branches` others,
    a graph that `seed` draws. There are labels * branches^(steps - 1) of them, all as probable.

    nats = log(procedures): of those of training for one of these, of all for one that is held out, as of sprites. Plans
    between a start and a goal are `vidgen.pipelines.priors.procedures`.
    """

    steps: int = 6
    labels: int = 8
    branches: int = 2
    seed: int = 0
    context: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.steps < 2 or not 1 <= self.branches < self.labels or self.count > MOST_PROCEDURES:
            raise VidgenError(
                f"procedures of {self.steps} steps of {self.labels} labels with {self.branches} branches: give 2 steps "
                f"or more, fewer branches than labels, and no more than {MOST_PROCEDURES} procedures in all"
            )

    @property
    def codebook_size(self) -> int:
        """Values of a token: the labels."""
        return self.labels

    @property
    def grid(self) -> tuple[int, int, int]:
        """One row, a cell a step."""
        return 1, 1, self.steps

    @property
    def count(self) -> int:
        """All procedures."""
        return self.labels * self.branches ** (self.steps - 1)

    @cached_property
    def followers(self) -> Int[np.ndarray, "labels branches"]:
        """What may follow each label, never itself."""
        rng = np.random.Generator(np.random.PCG64(self.seed))
        offsets = [1 + rng.permutation(self.labels - 1)[: self.branches] for _ in range(self.labels)]
        return (np.arange(self.labels)[:, None] + np.array(offsets)) % self.labels

    @cached_property
    def members(self) -> dict[str, Int[np.ndarray, " m"]]:
        """Which procedures are of each split, drawn among all; labels and edges of a large world are in both."""
        order = np.random.Generator(np.random.PCG64([self.seed, 1])).permutation(self.count)
        return {split: order[split_members(self.count, HELD_OUT, split)] for split in SPLITS}

    def procedure(self, number: int) -> Int[np.ndarray, " n"]:
        """Return procedure `number` of all: its digits are the first label and the edges from there."""
        number, label = divmod(number, self.labels)
        labels = [label]
        for _ in range(self.steps - 1):
            number, edge = divmod(number, self.branches)
            labels.append(int(self.followers[labels[-1], edge]))
        return np.array(labels)

    def draw(self, number: int, split: str) -> TokenClip:
        """Return clip `number` of a split: a procedure of it."""
        members = self.members[split]
        chosen = int(clip_generator(self.seed, split, number).choice(members))
        tokens = self.procedure(chosen).reshape(self.grid)
        return TokenClip(tokens=tokens, nats=log_count(len(members) if split == SPLITS[0] else self.count))

    def nats(self, log_probs: Float[np.ndarray, "t h w v"], tokens: Int[np.ndarray, "t h w"]) -> float:
        """Return the nats of a procedure under a prior's law."""
        return token_nats(log_probs, tokens, self.context)
