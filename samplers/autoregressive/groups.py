"""Parallel groups: tokens of a group are drawn at once, independently of each other given the groups before.

One pass of an any-order model a group in place of one a token, and a law that is no longer the model's: what tokens of
one group say of each other is lost. `vidgen evaluate sampler-law` measures how much, on a law that is known.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.errors import VidgenError
from vidgen.interfaces import MaskedLogits, TokenDraws
from vidgen.models.priors.token_values import Tokens, is_unknown
from vidgen.samplers.masked.revealing import check_sequences, reveal

Grid = tuple[int, int, int]  # t, h, w


def row_groups(grid: Grid) -> Int[Tensor, " n"]:
    """Return the group of each token where every row of a frame is one, from top to bottom, frame by frame."""
    frames, height, width = grid
    return torch.arange(frames * height).repeat_interleave(width)


def frame_groups(grid: Grid) -> Int[Tensor, " n"]:
    """Return the group of each token where every frame is one."""
    frames, height, width = grid
    return torch.arange(frames).repeat_interleave(height * width)


def far_apart_groups(grid: Grid, regions: tuple[int, int, int] = (1, 2, 2)) -> Int[Tensor, " n"]:
    """Return the group of each token where the same place of all regions is one (Wang et al. 2024, arXiv 2412.15119).

    The clip is cut into `regions` along each axis. Tokens of a group lie a region apart, where they depend on each
    other least; the first tokens of the regions, which all else follows, are drawn one after the other. Raises
    VidgenError for sides that the regions do not divide.
    """
    if min(regions) < 1 or any(side % count for side, count in zip(grid, regions, strict=True)):
        raise VidgenError(f"a grid of {grid} tokens is not cut evenly into {regions} regions")
    region = torch.zeros(grid, dtype=torch.int64)
    place = torch.zeros(grid, dtype=torch.int64)
    for axis, (side, count) in enumerate(zip(grid, regions, strict=True)):
        length = side // count
        shape = [-1 if axis == other else 1 for other in range(3)]
        position = torch.arange(side).reshape(shape)
        region = region * count + position // length
        place = place * length + position % length
    number = regions[0] * regions[1] * regions[2]
    return torch.where(place == 0, region, number + place - 1).flatten()


@torch.no_grad()
def sample_groups(
    logits: MaskedLogits,
    tokens: Tokens,
    sampling: TokenDraws,
    generators: Generators,
    *,
    groups: Int[Tensor, " n"],
    callback: Callable[[int, Tensor], None] | None = None,
) -> Tokens:
    """Draw the unknown tokens group by group, lowest number first; the known ones stay as they are.

    Groups that are known in all sequences take no pass. With a group for each token this is `sample_any_order` in their
    order. Raises VidgenError for tokens that are none, groups of another length, and logits of NaN.

    Args:
        logits: The model, of the any-order kind.
        tokens: Sequences in which unknown tokens are MASK; continuous ones NaN.
        sampling: Temperature and filters, or the head of continuous tokens.
        generators: One a sample (on the CPU), so that no sample depends on its batch, or one for all.
        groups: The group of each token: `row_groups`, `frame_groups`, `far_apart_groups`, or any numbers.
        callback: Called as (number of groups done, tokens (b, n)) after each pass.
    """
    tokens = check_sequences(tokens)
    if groups.shape != tokens.shape[1:2]:
        raise VidgenError(f"there are {len(groups)} groups' numbers for {tokens.shape[1]} tokens; give one a token")
    groups = groups.to(tokens.device)
    for done, group in enumerate(groups.unique().tolist(), start=1):
        chosen = (groups == group) & is_unknown(tokens)
        if not bool(chosen.any()):
            continue
        noise = sampling.draw_noise(*tokens.shape[:2], generators, chosen.any(1))
        tokens, _ = reveal(logits, tokens, chosen, sampling, noise)
        if callback is not None:
            callback(done, tokens)
    return tokens
