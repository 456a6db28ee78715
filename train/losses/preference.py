"""What post-training learns of rewarded clips: weights of a reward, and preferences within pairs, as pure functions."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def reward_weights(rewards: Float[Tensor, "b m"], temperature: float) -> Float[Tensor, "b m"]:
    """Return exp(r / temperature) over its mean among the m clips of a prompt, which is m at most.

    Where m is large, a denoising loss on a model's own clips has with these weights the optimum
    p(x) exp(r(x) / temperature) / Z, the distribution of most reward at that divergence from p (Peters & Schaal 2007,
    eq. 5; Lee et al. 2023, section 4). Of few clips it goes part of the way; where all have one reward, none of it.
    """
    return (rewards / temperature).softmax(1) * rewards.shape[1]


def preference_loss(
    better: Float[Tensor, " b"],
    better_reference: Float[Tensor, " b"],
    worse: Float[Tensor, " b"],
    worse_reference: Float[Tensor, " b"],
    beta: float,
) -> Float[Tensor, " b"]:
    """Return -log sigmoid(-beta ((better - better_reference) - (worse - worse_reference))), of denoising errors.

    Diffusion-DPO (Wallace et al. 2024, eq. 14; for flows Liu et al. 2025, eq. 7, whose beta is twice this one). With
    errors |x - m|^2 / 2 it is the likelihood of preferences under the reward that the model has over its reference.

    Args:
        better: Errors of the clips that are preferred, by the model.
        better_reference: The same, by the model as it was before.
        worse: Errors of the others.
        worse_reference: The same, by the model as it was before.
        beta: How much a change of errors means.
    """
    return -F.logsigmoid(-beta * ((better - better_reference) - (worse - worse_reference)))
