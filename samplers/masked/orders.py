"""Orders in which places of a clip are revealed whatever is drawn there: random, and Halton's."""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.errors import VidgenError
from vidgen.models.priors.token_values import Tokens
from vidgen.samplers.autoregressive.categorical import draw_uniform

Grid = tuple[int, int, int]  # t, h, w
BASES = (5, 2, 3)  # of t, h and w: 2 and 3 are those of the paper's pictures


def radical_inverse(numbers: Int[Tensor, " m"], base: int) -> Float[Tensor, " m"]:
    """Return the digits of whole numbers mirrored at the point, in [0, 1): van der Corput's sequence of that base."""
    value, weight = torch.zeros(len(numbers), dtype=torch.float64), 1.0
    while bool(numbers.any()):
        weight /= base
        value += weight * (numbers % base)
        numbers = numbers // base
    return value


@cache
def halton_order(grid: Grid) -> Int[Tensor, " n"]:
    """Return the places of a grid in the order in which Halton's sequence first comes to each of them.

    Besnier et al. 2025 (arXiv 2503.17076), whose pictures have two axes, with time as the third. Neighbors in the order
    lie far apart in the clip, where tokens depend least on each other. Raises VidgenError for an empty grid.
    """
    if min(grid) < 1:
        raise VidgenError(f"the grid is {grid}; frames, height and width are 1 or more")
    cells = grid[0] * grid[1] * grid[2]
    points = 4 * cells
    while True:
        numbers = torch.arange(1, points + 1)
        place = torch.zeros(points, dtype=torch.int64)
        for side, base in zip(grid, BASES, strict=True):
            cell = (radical_inverse(numbers, base) * side).long().clamp(max=side - 1)
            place = place * side + cell
        first = torch.full((cells,), points).scatter_reduce(0, place, numbers - 1, reduce="amin")
        if bool((first < points).all()):
            return first.argsort()
        points *= 2


def halton_ranks(tokens: Tokens, grid: Grid | None) -> Float[Tensor, "b n"]:
    """Return when each place has its turn, the same in all sequences. Raises VidgenError for a grid of another size."""
    if grid is None or grid[0] * grid[1] * grid[2] != tokens.shape[1]:
        raise VidgenError(f"the Halton order of {tokens.shape[1]} tokens needs their grid (t, h, w); it is {grid}")
    ranks = halton_order(tuple(grid)).argsort().double()
    return ranks.to(tokens.device).expand(len(tokens), -1)


def random_ranks(
    tokens: Tokens, generators: Generators, active: Bool[Tensor, " b"] | None = None
) -> Float[Tensor, "b n"]:
    """Return when each place has its turn, in an order drawn for each sequence: all are equally probable."""
    return draw_uniform(*tokens.shape[:2], generators, active).to(tokens.device)
