"""Objectives that predict: masked tokens, what comes next, a law of it, and relations between tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.train.objectives.contrastive import info_nce
from vidgen.train.objectives.parts import LossAndParts

DISTANCES = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    "smooth_l1": F.smooth_l1_loss,
}


def masked_regression(
    predictions: Float[Tensor, "b n d"],
    targets: Float[Tensor, "b n d"],
    masked: Bool[Tensor, "b n"],
    *,
    distance: str = "l2",
    visible: float = 0.0,
    stop_gradient: bool = True,
) -> LossAndParts:
    """Return the mean distance of tokens that are masked, and `visible` times that of those that are not; targets get
    no gradient but where `stop_gradient` is false.

    He et al. 2022 (MAE, section 3: pixels, masked patches alone) and Bardes et al. 2024 (V-JEPA, eq. 1: features of a
    teacher, "l1"); with `visible` the dense loss of V-JEPA 2.1 (2026). Parts: "masked", "visible".

    Raises VidgenError where nothing is masked.
    """
    if not bool(masked.any()):
        raise VidgenError("nothing is masked: there is no target; raise the mask's ratio")
    goals = targets.detach() if stop_gradient else targets
    error = DISTANCES[distance](predictions.float(), goals.float(), reduction="none").mean(-1)
    hidden = error[masked].mean()
    shown = error[~masked].mean() if not bool(masked.all()) else torch.zeros_like(hidden)
    loss = hidden + visible * shown if visible else hidden
    return loss, {"masked": hidden.detach(), "visible": shown.detach()}


def cpc(
    predictions: Float[Tensor, "b k d"], futures: Float[Tensor, "b k d"], *, temperature: float = 0.1
) -> LossAndParts:
    """Return InfoNCE of the k-th step ahead against all clips and all steps of the batch (van den Oord et al. 2018,
    CPC, eq. 4; Han et al. 2019, DPC: negatives of the same clip at other steps too). Raises VidgenError for one
    row in all."""
    return info_nce(predictions.flatten(0, 1), futures.flatten(0, 1), temperature=temperature)


def normal_kl(
    mean: Float[Tensor, "*b d"],
    log_std: Float[Tensor, "*b d"],
    prior_mean: Float[Tensor, "*b d"],
    prior_log_std: Float[Tensor, "*b d"],
) -> Float[Tensor, " *b"]:
    """Return KL(N(mean, std) || N(prior_mean, prior_std)), summed over channels, in nats (Kingma & Welling 2014,
    appendix B, with a prior that is learned)."""
    ratio = 2.0 * (log_std - prior_log_std)
    moved = ((mean - prior_mean) / prior_log_std.exp()).square()
    return 0.5 * (ratio.exp() + moved - 1.0 - ratio).sum(dim=-1)


def stochastic_prediction(
    predictions: Float[Tensor, "b n d"],
    targets: Float[Tensor, "b n d"],
    kl: Float[Tensor, " b"],
    *,
    kl_weight: float = 0.01,
) -> LossAndParts:
    """Return mean |prediction - target|^2 + kl_weight * KL(posterior || prior) of a future that is not certain (Denton
    & Fergus 2018; Jang et al. 2024, RSP). Parts: "prediction", "kl"."""
    error = F.mse_loss(predictions.float(), targets.detach().float())
    mean = kl.float().mean()
    return error + kl_weight * mean, {"prediction": error.detach(), "kl": mean.detach()}


def token_relations(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
    """Return the cosines of all pairs of tokens."""
    x = F.normalize(tokens.float(), dim=-1)
    return x @ x.transpose(1, 2)


def relation_distillation(
    student: Float[Tensor, "b t s d"], teacher: Float[Tensor, "b t s e"], *, margin: float = 0.1
) -> LossAndParts:
    """Return how far cosines between tokens are from a teacher's, beyond a margin: within a frame, and between frames
    (Zhang et al. 2025, VideoREPA). Widths may differ; frames and tokens of a frame may not.

        mean max(0, |cos_student - cos_teacher| - margin)

    Raises VidgenError for other frames or tokens. Parts: "spatial", "temporal".
    """
    if student.shape[:3] != teacher.shape[:3]:
        raise VidgenError(
            f"relations of tokens {tuple(student.shape[1:3])} (frames, tokens) cannot be those of "
            f"{tuple(teacher.shape[1:3])}; resample the teacher's first"
        )
    t, s = student.shape[1:3]
    gaps = (token_relations(student.flatten(1, 2)) - token_relations(teacher.detach().flatten(1, 2))).abs()
    gaps = F.relu(gaps - margin)
    frame = torch.arange(t * s, device=gaps.device) // s
    same = (frame[:, None] == frame).expand_as(gaps)
    spatial = gaps[same].mean()
    temporal = gaps[~same].mean() if t > 1 else torch.zeros_like(spatial)
    return spatial + temporal, {"spatial": spatial.detach(), "temporal": temporal.detach()}
