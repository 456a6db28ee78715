"""Objectives of two branches without negatives: one predicts the other's embedding, which gets no gradient."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.train.objectives.parts import LossAndParts


def cosine_regression(predictions: Float[Tensor, "*b d"], targets: Float[Tensor, "*b d"]) -> LossAndParts:
    """Return the mean of |p / |p| - z / |z||^2 = 2 - 2 cos(p, z), z without gradient (Grill et al. 2020, BYOL, eq. 2).
    SimSiam's -cos (Chen & He 2021, eq. 1) is half of it less 1. Parts: "cosine"."""
    cosine = F.cosine_similarity(predictions.float(), targets.detach().float(), dim=-1).mean()
    return 2.0 - 2.0 * cosine, {"cosine": cosine.detach()}


def barlow_twins(
    a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], *, off_diagonal: float = 5e-3, eps: float = 1e-5
) -> LossAndParts:
    """Return sum_i (1 - C_ii)^2 + off_diagonal * sum_{i != j} C_ij^2, C the cross-correlation of two views' embeddings
    over the batch (Zbontar et al. 2021, eqs. 1 and 2). Raises VidgenError for one clip, which has no variance.

    `eps` is added to variances, as batch normalisation does.
    """
    check_rows(len(a))
    x, y = ((z.float() - z.float().mean(0)) / (z.float().var(0, correction=0) + eps).sqrt() for z in (a, b))
    correlation = x.T @ y / len(a)
    diagonal = correlation.diagonal()
    invariance = (1.0 - diagonal).square().sum()
    redundancy = correlation.square().sum() - diagonal.square().sum()
    parts = {"invariance": invariance.detach(), "redundancy": redundancy.detach()}
    return invariance + off_diagonal * redundancy, parts


def variance_term(z: Float[Tensor, "b d"], eps: float = 1e-4) -> Float[Tensor, ""]:
    """Return the mean over channels of max(0, 1 - sqrt(var + eps)) (Bardes et al. 2022, VICReg, eq. 1)."""
    return F.relu(1.0 - (z.float().var(dim=0) + eps).sqrt()).mean()


def covariance_term(z: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return 1/d sum_{i != j} Cov(z)_ij^2 (VICReg, eqs. 3 and 4)."""
    x = z.float() - z.float().mean(0)
    covariance = x.T @ x / (len(z) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / z.shape[1]


def vicreg(
    a: Float[Tensor, "b d"],
    b: Float[Tensor, "b d"],
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> LossAndParts:
    """Return invariance * mean |a - b|^2 + variance * (mean of both views' terms) + covariance * (sum of both views').

    Bardes et al. 2022 (VICReg, eq. 6; the variance term halved, as in their code). Raises VidgenError for one clip.
    """
    check_rows(len(a))
    terms = {
        "invariance": F.mse_loss(a.float(), b.float()),
        "variance": (variance_term(a) + variance_term(b)) / 2,
        "covariance": covariance_term(a) + covariance_term(b),
    }
    weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
    loss = sum(weights[name] * value for name, value in terms.items())
    return loss, {name: value.detach() for name, value in terms.items()}


def sigreg(
    z: Float[Tensor, "b d"], *, generator: torch.Generator, directions: int = 256, points: int = 17, reach: float = 5.0
) -> LossAndParts:
    """Return how far embeddings are from a standard normal law: the Epps-Pulley statistic of their projections to
    random directions (Balestriero & LeCun 2025, LeJEPA: SIGReg).

        T(x) = b integral |mean_j exp(i t x_j) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt,  mean over directions

    by the trapezoid rule at `points` of [0, reach], twice. `epps_pulley` is the integral in closed form.
    Raises VidgenError for one row.
    """
    check_rows(len(z))
    axes = F.normalize(torch.randn(z.shape[1], directions, generator=generator), dim=0).to(z.device)
    x = z.float() @ axes
    t = torch.linspace(0.0, reach, points, device=z.device)
    law = torch.exp(-t.square() / 2)
    angles = x[..., None] * t
    distance = (angles.cos().mean(0) - law).square() + angles.sin().mean(0).square()
    loss = 2.0 * len(z) * torch.trapezoid(distance * law, t, dim=-1).mean()
    return loss, {"statistic": loss.detach()}


def epps_pulley(x: Float[Tensor, "b m"]) -> Float[Tensor, " m"]:
    """Return T of `sigreg` of each column in closed form (Epps & Pulley 1983), in time quadratic in rows:

    sqrt(2 pi) b (mean_jk exp(-(x_j - x_k)^2 / 2) - sqrt(2) mean_j exp(-x_j^2 / 4) + 1 / sqrt(3))
    """
    pairs = (x[:, None] - x[None]).square()
    mean = (-pairs / 2).exp().mean((0, 1)) - 2**0.5 * (-x.square() / 4).exp().mean(0) + 3**-0.5
    return math.sqrt(2 * math.pi) * len(x) * mean


def check_rows(rows: int) -> None:
    """Raise VidgenError for a batch that has no variance."""
    if rows < 2:
        raise VidgenError(f"a batch of {rows} row has no variance; set batch_size to 2 or more")
