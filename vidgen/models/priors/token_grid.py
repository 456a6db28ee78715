"""Sequences of tokens: which token of a grid comes where, and which sees which."""

from __future__ import annotations

from functools import lru_cache
from math import prod

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid


def flatten_indices(indices: Int[Tensor, "b t h w"] | Int[Tensor, "b t h w q"]) -> Int[Tensor, "b n"]:
    """Return the tokens of indices in the order of a prior: (t, h, w), and then the codes of a cell."""
    return indices.flatten(1)


def unflatten_tokens(tokens: Int[Tensor, "b n"], grid: Grid, codes: int = 1) -> Tensor:
    """Return indices (b, t, h, w), or (b, t, h, w, q) of several codes.

    Raises VidgenError for another number of tokens than the grid has.
    """
    t, h, w = grid
    if tokens.shape[1] != t * h * w * codes:
        raise VidgenError(f"{tokens.shape[1]} tokens are not {codes} for each cell of {t}x{h}x{w}")
    indices = rearrange(tokens, "b (t h w q) -> b t h w q", t=t, h=h, w=w)
    return indices if codes > 1 else indices[..., 0]


def flatten_latents(latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n c"]:
    """Return a vector for each cell, in the order of a prior: (t, h, w)."""
    return rearrange(latents, "b c t h w -> b (t h w) c")


def unflatten_latents(tokens: Float[Tensor, "b n c"], grid: Grid) -> Float[Tensor, "b c t h w"]:
    """Return latents of vectors. Raises VidgenError for another number of them than the grid has."""
    t, h, w = grid
    if tokens.shape[1] != t * h * w:
        raise VidgenError(f"{tokens.shape[1]} tokens are not one for each cell of {t}x{h}x{w}")
    return rearrange(tokens, "b (t h w) c -> b c t h w", t=t, h=h, w=w)


@lru_cache(maxsize=16)
def visible(grid: Grid, codes: int, attention: str, causal: bool, stride: int, odd: bool) -> Bool[Tensor, "n n"] | None:
    """Return which tokens (columns) each one (row) may see, itself always; None where that is all of them.

    Args:
        grid: Cells (t, h, w).
        codes: Tokens of each cell.
        attention: As of `TokenPriorConfig`.
        causal: Only tokens before it, and itself.
        stride: Of strided attention.
        odd: Which of its two patterns.
    """
    t, h, w = grid
    cells = [torch.arange(n) for n in (t, h, w, codes)]
    frame, row, column, _ = (x.flatten() for x in torch.meshgrid(*cells, indexing="ij"))
    n = len(frame)
    index = torch.arange(n)
    seen = torch.ones(n, n, dtype=torch.bool)
    if attention == "axial":
        same = [x[:, None] == x for x in (frame, row, column)]
        seen = (same[0] & same[1]) | (same[0] & same[2]) | (same[1] & same[2])
    elif attention == "strided":
        distance = (index[:, None] - index).abs()
        seen = distance % stride == 0 if odd else distance < stride
    if causal:
        seen = seen & (index <= index[:, None])
    return None if seen.all() else seen


@lru_cache(maxsize=16)
def causal_mask(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "queries keys"]:
    """Return which keys each query sees where the last query stands at the last key: those up to its own. It is made
    once for all layers and steps."""
    with torch.inference_mode(False):  # what is made in that mode could not be read where gradients are wanted
        return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def split_digits(indices: Int[Tensor, "b t h w"], sizes: tuple[int, ...]) -> Int[Tensor, "b t h w q"]:
    """Return indices below prod(sizes) as digits of these sizes, the least significant first: a large codebook as
    several small ones. Raises VidgenError for indices that are none of theirs."""
    total = prod(sizes)
    if bool(((indices < 0) | (indices >= total)).any()):
        raise VidgenError(
            f"indices from {indices.min().item()} to {indices.max().item()} are not all below {total}, the product of "
            f"the digits {sizes}; are they of another tokenizer?"
        )
    digits = []
    for size in sizes:
        digits.append(indices % size)
        indices = indices // size
    return torch.stack(digits, dim=-1)


def join_digits(digits: Int[Tensor, "b t h w q"], sizes: tuple[int, ...]) -> Int[Tensor, "b t h w"]:
    """Return the inverse of `split_digits`."""
    indices = torch.zeros_like(digits[..., 0])
    for digit, size in zip(reversed(digits.unbind(-1)), reversed(sizes), strict=True):
        indices = indices * size + digit
    return indices
