"""Token merging: tokens that are alike become one between the blocks of a trained encoder, without training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.bounds import Range, check_fields
from vidgen.models.attention import Heads
from vidgen.models.encoders.reduced import ReducedEncoder
from vidgen.models.encoders.video_vit import attend_rotated, rotary_rows
from vidgen.models.rope import Rotary, apply_rotary_emb


class Merged(NamedTuple):
    """Tokens after merging, how many of the grid each one stands for, the place of each, and which token now stands at
    every place of the grid."""

    x: Float[Tensor, "b m d"]
    size: Float[Tensor, "b m"]
    places: Int[Tensor, "b m"]
    owner: Int[Tensor, "b n"]


def merge_tokens(merged: Merged, count: int, saliency: Float[Tensor, "b m"] | None = None) -> Merged:
    """Return tokens of which `count` have been merged into others, by bipartite soft matching (Bolya et al. 2023, ToMe,
    section 3): of every second token the nearest of the others by cosine; the closest pairs become their mean, by size.

    With a `saliency` the least salient tokens are merged first, whatever their likeness (after Choi et al. 2024,
    vid-TLDR). At most half of the tokens merge at once.
    """
    x, size, places, owner = merged
    m, count = x.shape[1], min(count, x.shape[1] // 2)
    if count < 1:
        return merged
    direction = F.normalize(x.float(), dim=-1)
    a, b = torch.arange(0, m, 2, device=x.device), torch.arange(1, m, 2, device=x.device)
    likeness, partner = (direction[:, a] @ direction[:, b].transpose(1, 2)).max(dim=-1)
    first = likeness if saliency is None else -saliency[:, a]
    order = first.argsort(dim=1, descending=True)
    gone, partner = a[order[:, :count]], b[partner.gather(1, order[:, :count])]
    weight = size[..., None]
    sums = (x.float() * weight).scatter_add(1, expand(partner, x), (x.float() * weight).gather(1, expand(gone, x)))
    sizes = size.scatter_add(1, partner, size.gather(1, gone))
    kept = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device).scatter(1, gone, False)
    number = kept.cumsum(dim=1) - 1
    number = number.scatter(1, gone, number.gather(1, partner))
    rows = kept.float().argsort(dim=1, descending=True, stable=True)[:, : m - count]
    mean = (sums / sizes[..., None]).gather(1, expand(rows, x)).to(x.dtype)
    return Merged(mean, sizes.gather(1, rows), places.gather(1, rows), number.gather(1, owner))


def expand(rows: Int[Tensor, "b k"], x: Float[Tensor, "b n d"]) -> Int[Tensor, "b k d"]:
    """Return indices of rows as `gather` of tokens takes them."""
    return rows[..., None].expand(-1, -1, x.shape[-1])


@dataclass(frozen=True, kw_only=True)
class MergingConfig:
    """Which share of the tokens that are left is merged before each block but the first; `saliency`: the least salient
    ones, by how many tokens they look at."""

    ratio: Annotated[float, Range(0.0, 0.5)] = 0.1
    saliency: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


class MergingEncoder(ReducedEncoder[MergingConfig]):
    """A trained `VideoViT` with joint attention whose tokens are merged on the way; its config is a `MergingConfig`.

    Keys count as often as they have merged ones (ToMe, eq. 1: log size is added to the scores). In maps every place has
    the token that stands for it.
    """

    mixers = ("joint",)

    def tokens_left(self, tokens: int) -> list[int]:
        """Return how many of so many tokens each block has."""
        left = [tokens]
        for _ in self.encoder.blocks[1:]:
            left.append(left[-1] - min(round(self.reduction.ratio * left[-1]), left[-1] // 2))
        return left

    def iter_features(self, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every block."""
        encoder = self.encoder
        x, grid, _ = encoder.begin(video)
        everywhere = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
        merged = Merged(x, x.new_ones(x.shape[:2]), everywhere, everywhere)
        saliency = None
        for i, block in enumerate(encoder.blocks):
            if i:
                merged = merge_tokens(merged, round(self.reduction.ratio * merged.x.shape[1]), saliency)
            rotary = rotary_rows(grid, encoder.config.head_dim, merged.x, merged.places)
            attend = partial(attend_by_size, rotary=rotary, size=merged.size)
            if self.reduction.saliency and i + 1 < len(encoder.blocks):
                saliency = attention_saliency(block.attention.project(block.norm1(merged.x)), rotary, merged.size)
            merged = merged._replace(x=block(merged.x, attend, None))
            whole = merged.x.gather(1, expand(merged.owner, merged.x))
            yield f"blocks.{i}", rearrange(whole, "b (t h w) c -> b c t h w", t=grid[0], h=grid[1])


def attend_by_size(q: Heads, k: Heads, v: Heads, *, rotary: Rotary, size: Float[Tensor, "b m"]) -> Heads:
    """Return attention to keys that count as often as they have merged ones."""
    mask = None if not size.is_meta and bool((size == 1).all()) else size.log().to(q.dtype)
    return attend_rotated(q, k, v, rotary=rotary, mask=mask)


def attention_saliency(
    heads: tuple[Heads, Heads, Heads], rotary: Rotary, size: Float[Tensor, "b m"]
) -> Float[Tensor, "b m"]:
    """Return minus the entropy of each token's attention, over the logarithm of the tokens: what looks at few tokens is
    salient (after Choi et al. 2024, vid-TLDR)."""
    q, k, _ = heads
    scores = apply_rotary_emb(q, rotary) @ apply_rotary_emb(k, rotary).transpose(-1, -2) * q.shape[-1] ** -0.5
    scores = scores + size.log().to(scores.dtype)[:, None, None]
    return -torch.special.entr(scores.float().softmax(-1)).sum(-1).mean(1) / torch.tensor(float(k.shape[2])).log()
