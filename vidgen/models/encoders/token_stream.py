"""Tokens between the blocks of an encoder, and the map of the whole grid that they make."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.models.attention_patterns import Grid


class TokenStream(NamedTuple):
    """Tokens between blocks; at which places of the grid, None for all in order; and, where they are learned, the
    `shares` that each one (s of a frame or clip f) has in the place of those that it was learned from."""

    x: Float[Tensor, "b k d"]
    places: Int[Tensor, "b m"] | None = None
    shares: Float[Tensor, "b f p s"] | None = None

    def to_map(self, grid: Grid) -> Float[Tensor, "b d t h w"]:
        """Return a map of the whole grid: a learned token stands at each place by its share there, and the mean of all
        tokens where none was read."""
        x = self.x
        if self.shares is not None:
            x = rearrange(self.x, "b (f s) d -> b f s d", f=self.shares.shape[1])
            x = rearrange(self.shares @ x, "b f p d -> b (f p) d")
        if self.places is not None:
            x = spread_rows(x, self.places, prod(grid))
        return rearrange(x, "b (t h w) d -> b d t h w", t=grid[0], h=grid[1])


def spread_rows(x: Float[Tensor, "b k d"], places: Int[Tensor, "b k"], count: int) -> Float[Tensor, "b n d"]:
    """Return `count` rows: the tokens at their places, and elsewhere their mean, so that it is the mean of all rows."""
    whole = x.mean(1, keepdim=True).expand(-1, count, -1)
    return whole.scatter(1, places[..., None].expand(-1, -1, x.shape[-1]), x)
