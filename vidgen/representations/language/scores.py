"""Scores of texts against clips, corrected at test time for items that are near to everything (hubs)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError


def dual_softmax(scores: Float[Tensor, "n m"], *, logit_scale: float = 100.0) -> Float[Tensor, "n m"]:
    """Return scores of n queries times the share of each query in each item: a softmax over the queries.

    It reads all queries at once, so the result of one depends on the others. Cheng et al. 2021 (CAMoE).
    """
    return scores * (logit_scale * scores).softmax(0)


def dynamic_inverted_softmax(
    scores: Float[Tensor, "n m"], bank: Float[Tensor, "b m"], *, logit_scale: float = 20.0
) -> Float[Tensor, "n m"]:
    """Return scores of n queries normalized by those of a bank of other queries on the same m items.

    Only queries whose best item is the best of some query of the bank are normalized, exp(k s) over the sum of
    exp(k s) of the bank; the others stay as they are, so values compare within a query alone. Bogolin et al. 2022
    (QB-Norm). VidgenError if the bank is empty or has other items.
    """
    if not len(bank) or bank.shape[1] != scores.shape[1]:
        shape = tuple(bank.shape)
        raise VidgenError(f"the bank of queries is {shape}, it needs one or more rows of {scores.shape[1]} items")
    hubs = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
    hubs[bank.argmax(1)] = True
    logits = logit_scale * scores - (logit_scale * bank).logsumexp(0)
    return torch.where(hubs[scores.argmax(1)][:, None], logits.exp(), scores)
