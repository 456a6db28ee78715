"""What tells whether features without labels are worth something, by name: their spread, their rank, their neighbours.

A loss that falls says little: that of a collapsed encoder is the lowest there is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vidgen.train.tasks.task import Metrics
from vidgen.train.views.clips import ViewConfig

NEIGHBORS = 5
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)
SECOND_VIEW = ViewConfig(crop=0.6)  # what features of a clip are to outlast: most of the frame, in other colours


def rank_me(z: Float[Tensor, "n d"]) -> float:
    """Return exp of the entropy of the singular values, a rank that is not whole (Garrido et al. 2023, RankMe, eq. 1).

    Not centred: features that are all the same have rank 1, and centred ones would hide it.
    """
    values = torch.linalg.svdvals(z.double())
    shares = values / values.sum().clamp(min=1e-300)
    return torch.special.entr(shares).sum().exp().item()


def feature_spread(z: Float[Tensor, "n d"]) -> float:
    """Return the mean standard deviation of a channel over the mean absolute value: 0 where all clips are the same."""
    return (z.std(0).mean() / z.abs().mean().clamp(min=1e-30)).item()


def off_diagonal_correlation(z: Float[Tensor, "n d"]) -> float:
    """Return the root mean square of the correlations of two channels."""
    x = (z - z.mean(0)) / z.std(0).clamp(min=1e-12)
    correlation = x.T @ x / (len(z) - 1)
    d = z.shape[1]
    off = correlation.square().sum() - correlation.diagonal().square().sum()
    return (off / (d * (d - 1))).sqrt().item()


def alignment(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> float:
    """Return the mean squared distance of unit embeddings of two views (Wang & Isola 2020, eq. 1, alpha 2)."""
    return (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean().item()


def uniformity(z: Float[Tensor, "n d"]) -> float:
    """Return log mean exp(-2 |x - y|^2) over pairs of unit embeddings: low where they fill the sphere (Wang & Isola
    2020, eq. 2, t 2)."""
    return (-2.0 * torch.pdist(F.normalize(z, dim=1)).square()).exp().mean().log().item()


def lidar(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], delta: float = 1e-3) -> float:
    """Return the effective rank of the linear discriminant between clips, each with two views (Thilak et al. 2024,
    LiDAR, eqs. 2 to 4): the rank of what tells clips apart, by units of how views of one clip differ."""
    views = torch.stack([a, b], dim=1).double()
    centers = views.mean(1)
    within = (views - centers[:, None]).flatten(0, 1)
    spread = within.T @ within / len(within)
    scale = spread.diagonal().mean().clamp(min=1e-300)
    root = torch.linalg.cholesky(spread + delta * scale * torch.eye(len(spread), dtype=torch.float64))
    whitened = torch.linalg.solve_triangular(root, (centers - centers.mean(0)).T, upper=False)
    values = torch.linalg.svdvals(whitened).square()
    shares = values / values.sum().clamp(min=1e-300)
    return torch.special.entr(shares).sum().exp().item()


def describe_features(z: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> Metrics:
    """Return spread, rank, its share of what it could be, correlation and uniformity of features of clips, and how
    those of a `second` view of each clip agree with them."""
    z, second = z.float().cpu(), second.float().cpu()
    rank = rank_me(z)
    return {
        "feature_std": feature_spread(z),
        "rankme": rank,
        "rankme_share": rank / min(z.shape),
        "lidar": lidar(z, second),
        "correlation": off_diagonal_correlation(z),
        "uniformity": uniformity(z),
        "alignment": alignment(z, second),
    }


def probe_features(
    name: str, train: Float[Tensor, "n d"], truth: Sequence[str], z: Float[Tensor, "m d"], labels: Sequence[str]
) -> Metrics:
    """Return the accuracy of the nearest of `train` features, by cosine, and of a ridge classifier of them, whose
    penalty is chosen by leaving one out: "knn_<name>" and "linear_<name>"."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probes = {
        "knn": KNeighborsClassifier(min(NEIGHBORS, len(train)), metric="cosine"),
        "linear": make_pipeline(StandardScaler(), RidgeClassifierCV(PENALTIES)),
    }
    fits = {kind: probe.fit(train.double().numpy(), list(truth)) for kind, probe in probes.items()}
    return {f"{kind}_{name}": float(fit.score(z.double().numpy(), list(labels))) for kind, fit in fits.items()}
