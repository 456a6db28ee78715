"""Bilinear ridge regression: least squares on products of a cell's features and a text's, in closed form."""

from __future__ import annotations

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor


class BilinearRidge:
    """Fits y = [1, e] W [1, x] to the cells x of clips and the text e of each, with an L2 penalty on all of W but its
    constant (Hoerl & Kennard 1970). A text of no channels leaves a linear map of x.

    Only sums over cells are kept, batch by batch. A clip has one text, so the products' sums are those of its cells
    times those of its text, and no cell's product is ever made.
    """

    def __init__(self, channels: int, text: int) -> None:
        k, c = 1 + text, 1 + channels
        self.gram = torch.zeros(k, c, k, c, dtype=torch.float64)
        self.right = torch.zeros(k, c, dtype=torch.float64)
        self.cells = 0

    def add(self, x: Float[Tensor, "n l c"], e: Float[Tensor, "n k"], y: Float[Tensor, "n l"]) -> None:
        """Take in a batch of clips."""
        a, z = with_one(e).double(), with_one(x).double()
        each = einsum(z, z, "n l c, n l d -> n c d")
        both = einsum(a, a, "n k, n m -> n k m")
        self.gram += rearrange(einsum(both, each, "n k m, n c d -> k m c d"), "k m c d -> k c m d")
        right = einsum(z, y.double(), "n l c, n l -> n c")
        self.right += einsum(a, right, "n k, n c -> k c")
        self.cells += y.numel()

    def solve(self, penalty: float) -> Float[Tensor, "k c"]:
        """Return W; the penalty stands beside the mean square error."""
        k, c = self.right.shape
        gram = rearrange(self.gram, "k c m d -> (k c) (m d)") / self.cells
        damping = torch.full((k * c,), penalty, dtype=torch.float64)
        damping[0] = 0.0  # the constant
        right = rearrange(self.right / self.cells, "k c -> (k c) 1")
        solved = torch.cholesky_solve(right, torch.linalg.cholesky(gram + damping.diag()))
        return rearrange(solved, "(k c) 1 -> k c", k=k)


def apply_bilinear(
    weights: Float[Tensor, "k c"], x: Float[Tensor, "n l c"], e: Float[Tensor, "n k"]
) -> Float[Tensor, "n l"]:
    """Return y of every cell, for weights W."""
    return einsum(with_one(e).double() @ weights, with_one(x).double(), "n c, n l c -> n l").float()


def with_one(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c+1"]:
    """Return channels with a constant 1 before them."""
    return torch.cat([x.new_ones(*x.shape[:-1], 1), x], dim=-1)
