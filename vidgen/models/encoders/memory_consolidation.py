"""Memory consolidation: a long clip is read segment by segment, each beside a short memory of those before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.bounds import Choice, Range, check_fields
from vidgen.models.attention import Heads
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.reduced import ReducedEncoder
from vidgen.models.encoders.video_vit import attend_beside, take_rows
from vidgen.models.rope import Rotary, apply_rotary_emb
from vidgen.models.transformer_block import TransformerBlock

ROUNDS = 5  # of k-means


class Consolidated(NamedTuple):
    """Activations that are remembered, and which token's place each one has."""

    x: Float[Tensor, "b k d"]
    rows: Int[Tensor, "b k"]


def choose_random(x: Float[Tensor, "b n d"], count: int) -> Consolidated:
    """Keep `count` tokens at random, the same of all clips, in order."""
    order = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(0))[:count].sort().values
    rows = order.to(x.device).expand(len(x), -1)
    return Consolidated(take_rows(x, rows), rows)


def choose_coreset(x: Float[Tensor, "b n d"], count: int) -> Consolidated:
    """Keep `count` tokens that cover all: the one farthest from the mean, then always the one farthest from those that
    are kept (greedy k-center: Gonzalez 1985)."""
    points = x.float()
    distance = (points - points.mean(1, keepdim=True)).square().sum(-1)
    rows = []
    for i in range(count):
        row = distance.argmax(dim=1, keepdim=True)
        rows.append(row)
        gap = (points - take_rows(points, row)).square().sum(-1)
        distance = gap if i == 0 else torch.minimum(distance, gap)
    chosen = torch.cat(rows, dim=1).sort(dim=1).values
    return Consolidated(take_rows(x, chosen), chosen)


def cluster_means(x: Float[Tensor, "b n d"], count: int) -> Consolidated:
    """Return the means of `count` clusters of tokens by `ROUNDS` rounds of k-means (Lloyd 1982) from a coreset, each at
    the place of the token nearest to it."""
    points = x.float()
    centers = take_rows(points, choose_coreset(x, count).rows)
    for _ in range(ROUNDS):
        owner = torch.cdist(points, centers).argmin(dim=2)
        member = torch.nn.functional.one_hot(owner, count).to(points)
        sizes = member.sum(1)[..., None]
        centers = torch.where(sizes > 0, member.transpose(1, 2) @ points / sizes.clamp(min=1), centers)
    return Consolidated(centers.to(x.dtype), torch.cdist(centers, points).argmin(dim=2))


CONSOLIDATIONS: dict[str, Callable[[Tensor, int], Consolidated]] = {
    "random": choose_random,
    "kmeans": cluster_means,
    "coreset": choose_coreset,
}


@dataclass(frozen=True, kw_only=True)
class ConsolidationConfig:
    """A segment is `frames` frames of tubes long (0: as the encoder's clips of training), and of its activations in
    each block the share `keep` is remembered, chosen by `method`: random, kmeans or coreset."""

    keep: Annotated[float, Range(0.0, 1.0)] = 0.1
    frames: Annotated[int, Range(0, 10**6)] = 0
    method: Annotated[str, Choice(tuple(CONSOLIDATIONS))] = "kmeans"

    def __post_init__(self) -> None:
        check_fields(self)


class ConsolidatingEncoder(ReducedEncoder[ConsolidationConfig]):
    """A trained `VideoViT` with joint attention that reads clips of any length in segments; its config is a
    `ConsolidationConfig`.

    Each block of a segment attends to its own tokens and to a memory of what came into that block in every segment
    before, a few of them or their means (Balazevic et al. 2024, MC-ViT, section 3.3): cost grows with the clip by the
    memory alone. Since a block's memory holds nothing of later blocks, blocks run one after the other over all
    segments, which is the same, and stops at any layer. The paper fine-tunes this way; here nothing is trained, and a
    clip longer than those of training has times that the encoder has not seen.
    """

    mixers = ("joint",)

    @property
    def segment(self) -> int:
        """Frames of tubes in a segment."""
        shape = self.encoder.config
        return self.reduction.frames or shape.clip[0] // shape.patch[0]

    def remembered(self, tokens: int) -> int:
        """Return how many of so many tokens of a segment are remembered."""
        return round(self.reduction.keep * tokens)

    def tokens_left(self, tokens: int) -> list[int]:
        """Return how many of so many tokens each block computes: all of them."""
        return [tokens] * len(self.encoder.blocks)

    def iter_features(self, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every block."""
        x, grid, rotary = self.encoder.begin(video)
        for i, block in enumerate(self.encoder.blocks):
            x = self.run_block(block, x, rotary, grid)
            yield f"blocks.{i}", rearrange(x, "b (t h w) c -> b c t h w", t=grid[0], h=grid[1])

    def run_block(
        self, block: TransformerBlock, x: Float[Tensor, "b n d"], rotary: Rotary, grid: Grid
    ) -> Float[Tensor, "b n d"]:
        """Return a block's output for all segments, one after the other."""
        size = self.segment * grid[1] * grid[2]
        outputs, keys, values = [], [], []
        for first in range(0, x.shape[1], size):
            part = x[:, first : first + size]
            own = Rotary(rotary.cos[first : first + size], rotary.sin[first : first + size])
            attend = partial(attend_beside, rotary=own, keys=tuple(keys), values=tuple(values))
            outputs.append(block(part, attend, None))
            count = self.remembered(part.shape[1])
            if count and first + size < x.shape[1]:
                k, v = self.consolidate(block, part, own, count)
                keys.append(k)
                values.append(v)
        return torch.cat(outputs, dim=1)

    def consolidate(
        self, block: TransformerBlock, x: Float[Tensor, "b n d"], rotary: Rotary, count: int
    ) -> tuple[Heads, Heads]:
        """Return the keys, rotated, and values of a segment's activations, of `count` that stand for them."""
        normed = block.norm1(x)
        if count < x.shape[1]:
            normed, rows = CONSOLIDATIONS[self.reduction.method](normed, count)
            rotary = Rotary(rotary.cos[rows][:, None], rotary.sin[rows][:, None])
        k, v = block.attention.keys_values(normed)
        return apply_rotary_emb(k, rotary), v
