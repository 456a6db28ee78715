"""How the codes of a codebook are used, from the indices alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class IndexStatistics:
    """Of `tokens` indices: `used` codes occur, which is the share `usage` of the codebook.

    So few tokens could not have shown more than the share `reachable`: of 10,000 tokens and 2^18 codes, 3.8 %.
    `bits_per_token` is the entropy of the indices' own histogram (too low where tokens are fewer than codes, by about
    (used - 1) / (2 ln 2 tokens) bits: Miller 1955), `perplexity` two to its power.
    """

    tokens: int
    used: int
    usage: float
    reachable: float
    perplexity: float
    bits_per_token: float


def index_statistics(indices: Int[Tensor, ...], codebook_size: int) -> IndexStatistics:
    """Return the statistics of one codebook's indices, of any shape; for residual codes, take one column at a time.

    Only codes that occur are counted: memory follows the tokens, not the codebook. Raises ValueError for no indices
    and for one that the codebook does not have.
    """
    if indices.numel() == 0:
        raise ValueError(f"no indices (shape {tuple(indices.shape)}) to count")
    codes, counts = indices.flatten().unique(return_counts=True)
    if codes[0] < 0 or codes[-1] >= codebook_size:
        raise ValueError(f"indices span [{codes[0]}, {codes[-1]}], and the codebook has {codebook_size} codes")
    p = counts.double() / indices.numel()
    bits = -(p * p.log2()).sum().item() + 0.0  # no -0.0
    return IndexStatistics(
        tokens=indices.numel(),
        used=len(codes),
        usage=len(codes) / codebook_size,
        reachable=min(1.0, indices.numel() / codebook_size),
        perplexity=2.0**bits,
        bits_per_token=min(bits, log2(codebook_size)),
    )
