"""Objectives of texts and clips in one space: pure functions of scores, of which pairs belong together, and of a scale.

All of them take scores in the range of a cosine, n texts by m clips, what `PairLabels` says of the pairs, the factor
that makes logits of scores, and a bias that only the sigmoid loss uses. A text may be true of several clips; a pair may
be neither a positive nor a negative, and then counts nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.train.objectives.clusters import sinkhorn
from vidgen.train.objectives.contrastive import loss_of_positives, loss_of_signs
from vidgen.train.objectives.parts import LossAndParts

Scores = Float[Tensor, "n m"]
Scalar = Float[Tensor, ""]


class PairLabels(NamedTuple):
    """What the pairs of n texts and m clips are: positive, negative, or neither. No pair is both."""

    positives: Bool[Tensor, "n m"]
    negatives: Bool[Tensor, "n m"]

    @property
    def compared(self) -> Bool[Tensor, "n m"]:
        """The pairs that are one or the other."""
        return self.positives | self.negatives

    @property
    def T(self) -> PairLabels:
        """The pairs seen from the clips."""
        return PairLabels(self.positives.T, self.negatives.T)


def own_pairs(count: int, device: torch.device | str | None = None) -> PairLabels:
    """Return the labels of texts that belong to the clip at their own place, and to no other."""
    own = torch.eye(count, dtype=torch.bool, device=device)
    return PairLabels(own, ~own)


def check_pairs(scores: Scores, pairs: PairLabels) -> None:
    """Raise VidgenError for labels of another shape, and for a batch without a positive or without a negative."""
    if pairs.positives.shape != scores.shape or pairs.negatives.shape != scores.shape:
        raise VidgenError(
            f"labels {tuple(pairs.positives.shape)} and {tuple(pairs.negatives.shape)} are not of {tuple(scores.shape)}"
        )
    if not bool(pairs.positives.any()) or not bool(pairs.negatives.any()):
        kind = "negative" if bool(pairs.positives.any()) else "positive"
        raise VidgenError(
            f"a batch of {scores.shape[0]} texts and {scores.shape[1]} clips has no {kind} pair; raise batch_size"
        )


def hit_rates(scores: Scores, pairs: PairLabels) -> dict[str, Scalar]:
    """Return how often the best of the compared pairs is a positive one, of texts and of clips that have one."""
    parts = {}
    for name, s, labels in (("text_to_video", scores, pairs), ("video_to_text", scores.T, pairs.T)):
        best = s.detach().masked_fill(~labels.compared, float("-inf")).argmax(dim=1, keepdim=True)
        hits = labels.positives.gather(1, best).float().squeeze(1)
        parts[name] = hits[labels.positives.any(dim=1)].mean()
    return parts


def both_ways(loss: Callable[[Scores, PairLabels], Scalar], scores: Scores, pairs: PairLabels) -> Scalar:
    """Return the mean of a loss that looks for clips by texts, and for texts by clips."""
    return (loss(scores, pairs) + loss(scores.T, pairs.T)) / 2


def prepare(scores: Scores, pairs: PairLabels) -> tuple[Scores, dict[str, Scalar]]:
    """Return the scores in 32 bits or more, and the parts that every objective reports. Raises VidgenError as
    `check_pairs`."""
    check_pairs(scores, pairs)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return scores, hit_rates(scores, pairs)


def softmax(scores: Scores, pairs: PairLabels, scale: Scalar, bias: Scalar | None = None) -> LossAndParts:
    """Return cross-entropy of texts over clips and of clips over texts, averaged (Radford et al. 2021, CLIP).

    Of several positives it is the mean of their log-probabilities, positives among what the softmax is over (Khosla et
    al. 2020, SupCon, eq. 2: outside the logarithm).
    """
    scores, parts = prepare(scores, pairs)

    def one_way(s: Scores, labels: PairLabels) -> Scalar:
        return loss_of_positives(scale * s, labels.positives, compared=labels.compared)

    return both_ways(one_way, scores, pairs), parts


def sigmoid(scores: Scores, pairs: PairLabels, scale: Scalar, bias: Scalar | None = None) -> LossAndParts:
    """Return -1/n sum_ij log sigmoid(z_ij (scale s_ij + bias)), z_ij = 1 of positives and -1 of negatives (Zhai et al.
    2023, SigLIP)."""
    scores, parts = prepare(scores, pairs)
    logits = scale * scores if bias is None else scale * scores + bias
    return loss_of_signs(logits, pairs.positives, pairs.compared), parts


def hard_negative(
    scores: Scores,
    pairs: PairLabels,
    scale: Scalar,
    bias: Scalar | None = None,
    *,
    hardness: float = 0.5,
    positive_weight: float = 1.0,
) -> LossAndParts:
    """Return the softmax loss with negatives that weigh more the nearer they are (Robinson et al. 2021; Radenovic et
    al. 2023, HN-NCE).

        -log e^z+ / (positive_weight sum_p e^z_p + sum_j w_j e^z_j),
        w_j = count e^(hardness z_j) / sum_k e^(hardness z_k)

    with z = scale s, j and k over the `count` negatives. Weights are constants to the gradient: they stand for a law
    that negatives are drawn by. hardness 0 and positive_weight 1 are the softmax loss.
    """
    scores, parts = prepare(scores, pairs)

    def one_way(s: Scores, labels: PairLabels) -> Scalar:
        positives, negatives = labels
        z = scale * s
        closeness = (hardness * z.detach()).masked_fill(~negatives, float("-inf"))
        # Rows without negatives are kept finite here, and have none in the sum.
        total = closeness.logsumexp(dim=1, keepdim=True).nan_to_num(neginf=0.0)
        log_w = closeness - total + negatives.sum(dim=1, keepdim=True).clamp(min=1).log()
        of_positives = z + torch.tensor(positive_weight, dtype=z.dtype, device=z.device).log()
        weighted = torch.where(positives, of_positives, z + log_w)
        weighted = weighted.masked_fill(~labels.compared, float("-inf"))
        rows = positives.any(dim=1)
        log_p = z[rows] - weighted[rows].logsumexp(dim=1, keepdim=True)
        return -(torch.where(positives[rows], log_p, 0.0).sum(dim=1) / positives[rows].sum(dim=1)).mean()

    return both_ways(one_way, scores, pairs), parts


def mil_nce(scores: Scores, pairs: PairLabels, scale: Scalar, bias: Scalar | None = None) -> LossAndParts:
    """Return MIL-NCE (Miech et al. 2020, eq. 1): of each clip, all its texts are one bag, of which any may be right.

        -log sum_P e^z / (sum_P e^z + sum_N e^z)

    P are the clip's positive pairs, N its negative pairs with other texts and those of its texts with other clips.
    """
    scores, parts = prepare(scores, pairs)
    z = scale * scores
    of_clips = z.masked_fill(~pairs.negatives, float("-inf")).logsumexp(dim=0)
    of_texts = z.masked_fill(~pairs.negatives, float("-inf")).logsumexp(dim=1, keepdim=True)
    clips = pairs.positives.any(dim=0)
    bag = z.masked_fill(~pairs.positives, float("-inf"))[:, clips].logsumexp(dim=0)
    others = of_texts.expand_as(z).masked_fill(~pairs.positives, float("-inf"))[:, clips].logsumexp(dim=0)
    total = torch.stack([bag, of_clips[clips], others]).logsumexp(dim=0)
    return (total - bag).mean(), parts


def max_margin(
    scores: Scores, pairs: PairLabels, scale: Scalar, bias: Scalar | None = None, *, margin: float = 0.2
) -> LossAndParts:
    """Return the margin loss summed over negatives, of texts and of clips (Gabeur et al. 2020, MMT): the mean
    over positive pairs of sum_j max(0, margin + s_j - s+). The scale has no part in it."""
    scores, parts = prepare(scores, pairs)
    sides = (margin_losses(scores, pairs, margin), margin_losses(scores.T, pairs.T, margin))
    return sum(side.sum() for side in sides) / pairs.positives.sum(), parts


def triplet(
    scores: Scores, pairs: PairLabels, scale: Scalar, bias: Scalar | None = None, *, margin: float = 0.2
) -> LossAndParts:
    """Return `max_margin` of the nearest negative alone (Faghri et al. 2018, VSE++)."""
    scores, parts = prepare(scores, pairs)
    sides = (margin_losses(scores, pairs, margin), margin_losses(scores.T, pairs.T, margin))
    return sum(side.amax(dim=1).sum() for side in sides) / pairs.positives.sum(), parts


def margin_losses(scores: Scores, pairs: PairLabels, margin: float) -> Float[Tensor, "p m"]:
    """Return max(0, margin + s_ij - s_ip) of every positive pair (i, p) and negative (i, j), 0 at other j."""
    rows, columns = pairs.positives.nonzero(as_tuple=True)
    losses = F.relu(margin + scores[rows] - scores[rows, columns][:, None])
    return torch.where(pairs.negatives[rows], losses, 0.0)


@torch.no_grad()
def realign(scores: Scores, pairs: PairLabels, *, epsilon: float = 0.05, iterations: int = 50) -> Scores:
    """Return the optimal transport between texts and clips that have a positive: of those that give each text and each
    clip equal mass, the plan of the highest scores, with entropy weighing `epsilon` (Lin et al. 2024, Norton;
    Cuturi 2013). Rows sum to one; it is 0 at pairs that are neither positive nor negative."""
    rows, columns = pairs.positives.any(dim=1), pairs.positives.any(dim=0)
    part = scores.masked_fill(~pairs.compared, float("-inf"))[rows][:, columns]
    plan = torch.zeros_like(scores)
    plan[rows.nonzero(), columns.nonzero()[:, 0]] = sinkhorn(part, epsilon=epsilon, iterations=iterations)
    return plan


def realigned(
    scores: Scores,
    pairs: PairLabels,
    scale: Scalar,
    bias: Scalar | None = None,
    *,
    share: float = 0.3,
    epsilon: float = 0.05,
) -> LossAndParts:
    """Return the softmax loss whose targets are, to a `share`, what `realign` says in place of the labels (Lin et al.
    2024, Norton): captions that were written beside the wrong clip, and negatives that are none, pull less. Parts:
    "kept", how much of the transport stays with positives."""
    scores, parts = prepare(scores, pairs)
    plan = realign(scores, pairs, epsilon=epsilon)

    def one_way(s: Scores, labels: PairLabels, moved: Scores) -> Scalar:
        rows = labels.positives.any(dim=1)
        log_p = (scale * s).masked_fill(~labels.compared, float("-inf"))[rows].log_softmax(dim=1)
        own = labels.positives[rows] / labels.positives[rows].sum(dim=1, keepdim=True)
        targets = (1 - share) * own + share * moved[rows] / moved[rows].sum(dim=1, keepdim=True)
        return -(targets * log_p.masked_fill(~labels.compared[rows], 0.0)).sum(dim=1).mean()

    parts["kept"] = plan[pairs.positives].sum() / plan.sum()
    return (one_way(scores, pairs, plan) + one_way(scores.T, pairs.T, plan.T)) / 2, parts


TextVideoObjective = Callable[..., LossAndParts]

TEXT_VIDEO_OBJECTIVES: dict[str, TextVideoObjective] = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "hard_negative": hard_negative,
    "mil_nce": mil_nce,
    "max_margin": max_margin,
    "triplet": triplet,
    "realigned": realigned,
}
