"""Choice without a gradient: the law of a subset that is drawn by scores, and how to learn the scores from rewards."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.train.objectives.parts import LossAndParts


def draw_subset(scores: Float[Tensor, "b n"], count: int, generator: torch.Generator) -> Int[Tensor, "b k"]:
    """Draw `count` items without replacement, one after the other with probabilities softmax(scores) of those left
    (Gumbel top-k: Kool et al. 2019, theorem 1); in the order of the draw."""
    uniform = torch.rand(scores.shape, generator=generator).clamp(1e-9, 1 - 1e-7).to(scores)
    return (scores.detach() - (-uniform.log()).log()).topk(count, dim=1).indices


def subset_log_prob(scores: Float[Tensor, "b n"], order: Int[Tensor, "b k"]) -> Float[Tensor, " b"]:
    """Return the log-probability of drawing these items in this order (Plackett-Luce: Kool et al. 2019, eq. 5)."""
    left = torch.zeros_like(scores)
    total = scores.new_zeros(len(scores))
    for item in order.T[:, :, None]:
        total = total + (scores.gather(1, item) - (scores + left).logsumexp(dim=1, keepdim=True))[:, 0]
        left = left.scatter(1, item, float("-inf"))
    return total


def policy_gradient(log_probs: Float[Tensor, "m b"], rewards: Float[Tensor, "m b"]) -> LossAndParts:
    """Return what has the gradient of minus the mean reward (Williams 1992, REINFORCE), each of m draws held against
    the mean of the others, which leaves the gradient unbiased (Kool et al. 2019, "Buy 4 REINFORCE samples").

    Its value says nothing. Raises VidgenError for one draw. Parts: "reward".
    """
    count = len(rewards)
    if count < 2:
        raise VidgenError("one draw has nothing to be held against; take 2 or more")
    advantage = (rewards - rewards.mean(0)) * (count / (count - 1))
    return -(advantage.detach() * log_probs).mean(), {"reward": rewards.detach().mean()}
