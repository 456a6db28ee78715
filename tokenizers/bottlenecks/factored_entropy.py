"""Entropy of soft codes on a grid, factor by factor: no table has a row for every code of a codebook."""

from __future__ import annotations

from math import prod

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

LARGEST_HALF = 32  # codes of half a group; the joint distribution of a whole one is a table of 32 x 32 at most
SMALLEST = 1e-20  # probabilities below it count as nothing, and their logarithm stays finite


def soft_digits(y: Float[Tensor, "n d"], levels: tuple[int, ...]) -> list[Float[Tensor, "n l"]]:
    """Return log-probabilities of each channel's levels 0..l-1 for coordinates `y`: softmax of -(2 (y - k))^2.

    With two levels at -1 and 1 and x = 2y - 1, the probability of 1 is sigmoid(4 x): the squared distance of Yu et al.
    (2024, MAGVIT-v2, section 3.1) at a temperature of one.
    """
    logs = []
    for channel, size in zip(y.unbind(1), levels, strict=True):
        steps = torch.arange(size, device=y.device, dtype=y.dtype)
        logs.append((-4.0 * (rearrange(channel, "n -> n 1") - steps).square()).log_softmax(dim=1))
    return logs


def split_into_halves(levels: tuple[int, ...]) -> list[list[int]]:
    """Put neighboring channels together while their codes are at most `LARGEST_HALF`; one channel at least."""
    halves: list[list[int]] = []
    for channel, size in enumerate(levels):
        if halves and prod(levels[i] for i in halves[-1]) * size <= LARGEST_HALF:
            halves[-1].append(channel)
        else:
            halves.append([channel])
    return halves


def entropy(p: Float[Tensor, ...]) -> Float[Tensor, ""]:
    """Return -sum p log p in nats."""
    return -(p * p.clamp(min=SMALLEST).log()).sum()


def factored_entropies(y: Float[Tensor, "n d"], levels: tuple[int, ...]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the mean entropy of a position's code, and the entropy of the mean over positions, in nats.

    Channels are independent given `y`, so the first is a sum over channels and exact. The second is a sum over groups
    of at most 1,024 codes: exact where one group holds all channels, else from above, as with the channels one by one
    in Zhao et al. (2024, BSQ, section 4.2) but closer. A group's joint distribution is the product of the matrices of
    its two halves, n x 32 each: sum_n p(a | n) p(b | n) / n.
    """
    logs = soft_digits(y, levels)
    each = sum(-(log.exp() * log).sum(dim=1).mean() for log in logs)
    halves = []
    for channels in split_into_halves(levels):
        joint = logs[channels[0]]
        for channel in channels[1:]:
            pairs = rearrange(joint, "n a -> n a 1") + rearrange(logs[channel], "n l -> n 1 l")
            joint = rearrange(pairs, "n a l -> n (a l)")
        halves.append(joint.exp())
    together = y.new_zeros(())
    for i in range(0, len(halves), 2):
        pair = halves[i : i + 2]
        p = pair[0].mean(dim=0) if len(pair) == 1 else pair[0].T @ pair[1] / len(y)
        together = together + entropy(p)
    return each, together


def entropy_loss(y: Float[Tensor, "n d"], levels: tuple[int, ...]) -> Float[Tensor, ""]:
    """Return the mean entropy of a code less the entropy of the mean code (Yu et al. 2024, eq. 5).

    It is low where each position is sure of its code and all codes are used alike. 0 of no positions.
    """
    if len(y) == 0:
        return y.new_zeros(())
    each, together = factored_entropies(y, levels)
    return each - together
