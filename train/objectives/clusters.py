"""Objectives over prototypes: embeddings are assigned to clusters, and one view tells the other's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.train.objectives.parts import LossAndParts


@torch.no_grad()
def sinkhorn(scores: Float[Tensor, "b k"], *, epsilon: float = 0.05, iterations: int = 3) -> Float[Tensor, "b k"]:
    """Return the assignment Q* that maximises <Q, scores> + epsilon H(Q) among those with rows of equal mass and
    prototypes of equal mass (Caron et al. 2020, SwAV, eq. 3 to 5; Cuturi 2013), each row summing to 1.

    In the logarithm, so that no epsilon overflows. Ends with rows: after few `iterations` prototypes are only nearly
    equal.
    """
    log_q = scores.double() / epsilon
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(dim=0, keepdim=True)
        log_q = log_q - log_q.logsumexp(dim=1, keepdim=True)
    return log_q.exp().to(scores.dtype)


def prototype_cross_entropy(
    logits: Float[Tensor, "b k"], targets: Float[Tensor, "b k"], *, temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Return the mean of -sum_k q_k log softmax(logits / temperature)_k; targets get no gradient."""
    return -(targets.detach().float() * (logits.float() / temperature).log_softmax(dim=-1)).sum(dim=-1).mean()


def perplexity(targets: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Return how many clusters a batch uses: exp of the entropy of its mean assignment."""
    mean = targets.float().mean(0)
    return torch.special.entr(mean).sum().exp()


def swav(
    views: Sequence[Float[Tensor, "b k"]],
    *,
    assigned: int = 2,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
) -> LossAndParts:
    """Return the swapped prediction of SwAV (Caron et al. 2020, eqs. 1 and 2): each view's scores predict the Sinkhorn
    assignments of the `assigned` first views, but for its own. Scores are cosines to prototypes.

    The same function on tokens is SIGMA's loss (Salehi et al. 2024). Parts: "clusters", how many are in
    use.
    """
    codes = [sinkhorn(scores, epsilon=epsilon, iterations=iterations) for scores in views[:assigned]]
    losses = [
        prototype_cross_entropy(scores, code, temperature=temperature)
        for i, code in enumerate(codes)
        for j, scores in enumerate(views)
        if i != j
    ]
    return torch.stack(losses).mean(), {"clusters": perplexity(torch.cat(codes))}


def dino(
    student: Sequence[Float[Tensor, "b k"]],
    teacher: Sequence[Float[Tensor, "b k"]],
    center: Float[Tensor, " k"],
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
) -> LossAndParts:
    """Return the cross-entropy of each student view to each teacher view but its own, the teacher's centred and
    sharpened: softmax((g - center) / teacher_temperature) (Caron et al. 2021, DINO, eqs. 1 and 2).

    Views of the same place in both sequences are the same crop. Parts: "teacher_entropy", in nats, and "clusters".
    """
    targets = [((logits.detach().float() - center) / teacher_temperature).softmax(dim=-1) for logits in teacher]
    losses = [
        prototype_cross_entropy(logits, target, temperature=student_temperature)
        for i, target in enumerate(targets)
        for j, logits in enumerate(student)
        if i != j
    ]
    every = torch.cat(targets)
    entropy = torch.special.entr(every).sum(dim=-1).mean()
    return torch.stack(losses).mean(), {"teacher_entropy": entropy, "clusters": perplexity(every)}


def move_center(
    center: Float[Tensor, " k"], teacher: Float[Tensor, "b k"], momentum: float = 0.9
) -> Float[Tensor, " k"]:
    """Return momentum * center + (1 - momentum) * the batch's mean of the teacher's logits (DINO, eq. 4)."""
    return momentum * center + (1.0 - momentum) * teacher.detach().float().mean(0)
