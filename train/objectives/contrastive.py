"""Contrastive objectives: which of many embeddings belongs to this one.

All of them normalise the embeddings of a projector; rows of the same place in two batches belong together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vidgen.errors import VidgenError
from vidgen.train.objectives.parts import LossAndParts

QUEUE_PART = 8192  # negatives whose logits are in memory at once


def check_batch(rows: int) -> None:
    """Raise VidgenError for a batch without negatives."""
    if rows < 2:
        raise VidgenError(
            f"a contrastive batch of {rows} clip has nothing to tell it from; set batch_size to 2 or more"
        )


def info_nce(
    queries: Float[Tensor, "b d"],
    keys: Float[Tensor, "b d"],
    *,
    negatives: Float[Tensor, "m d"] | None = None,
    temperature: float = 0.1,
) -> LossAndParts:
    """Return InfoNCE: -log exp(q_i k_i / T) / (sum_j exp(q_i k_j / T) + sum_m exp(q_i n_m / T)).

    van den Oord et al. 2018 (CPC, eq. 4), with cosines. With `negatives`, of a queue (He et al. 2020, MoCo, eq. 1) or
    made of the clips themselves (Tao et al. 2020, IIC), these come to the other keys of the batch; their logits are
    computed part by part, in bounded memory. Parts: "accuracy", how often the own key is nearest of the batch.

    Raises VidgenError for one clip without negatives.
    """
    if negatives is None:
        check_batch(len(queries))
    q, k = F.normalize(queries.float(), dim=-1), F.normalize(keys.float(), dim=-1)
    logits = q @ k.T / temperature
    total = logits.logsumexp(dim=1)
    if negatives is not None:
        for part in F.normalize(negatives.float(), dim=-1).split(QUEUE_PART):
            total = torch.logaddexp(total, checkpoint(mass_of, q, part, temperature, use_reentrant=False))
    hits = (logits.argmax(dim=1) == torch.arange(len(q), device=q.device)).float().mean()
    return (total - logits.diagonal()).mean(), {"accuracy": hits.detach()}


def mass_of(queries: Float[Tensor, "b d"], negatives: Float[Tensor, "m d"], temperature: float) -> Float[Tensor, " b"]:
    """Return log sum_m exp(q_i n_m / temperature)."""
    return (queries @ negatives.T / temperature).logsumexp(dim=1)


def nt_xent(a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], *, temperature: float = 0.1) -> LossAndParts:
    """Return the symmetric form over two views, in which the other clips of the own view are negatives too (Chen et al.
    2020, SimCLR, eq. 1). Raises VidgenError for one clip."""
    check_batch(len(a))
    z = F.normalize(torch.cat([a, b]).float(), dim=-1)
    logits = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    hits = (logits.argmax(dim=1) == partner).float().mean()
    return F.cross_entropy(logits, partner), {"accuracy": hits.detach()}


def multi_positive_nce(
    queries: Float[Tensor, "b d"],
    keys: Float[Tensor, "m d"],
    positives: Bool[Tensor, "b m"],
    *,
    temperature: float = 0.1,
    form: str = "inside",
) -> LossAndParts:
    """Return InfoNCE with several positives a query, or none, in which case the query is left out.

    "inside" the logarithm: -log sum_p exp(s_p / T) / sum_j exp(s_j / T) (Miech et al. 2020, MIL-NCE, eq. 1; Han et al.
    2020, CoCLR, eq. 2); "outside": -mean_p log exp(s_p / T) / sum_j exp(s_j / T) (Khosla et al. 2020, SupCon, eq. 2).

    Raises VidgenError for queries none of which has a positive.
    """
    logits = F.normalize(queries.float(), dim=-1) @ F.normalize(keys.float(), dim=-1).T / temperature
    loss = loss_of_positives(logits, positives, form=form)
    return loss, {"positives": positives.sum(dim=1)[positives.any(dim=1)].float().mean()}


def loss_of_positives(
    logits: Float[Tensor, "b m"],
    positives: Bool[Tensor, "b m"],
    *,
    compared: Bool[Tensor, "b m"] | None = None,
    form: str = "outside",
) -> Float[Tensor, ""]:
    """Return the mean over rows of -log of the softmax at the positives, see `multi_positive_nce`. `compared` are the
    pairs that the softmax is over, positives among them; None: all. Raises VidgenError for rows none of which has a
    positive."""
    rows = positives.any(dim=1)
    if not bool(rows.any()):
        raise VidgenError("no query of the batch has a positive")
    if compared is not None:
        logits = logits.masked_fill(~compared, float("-inf"))
    log_p, positives = logits[rows].log_softmax(dim=1), positives[rows]
    if form == "inside":
        return -log_p.masked_fill(~positives, float("-inf")).logsumexp(dim=1).mean()
    return -(torch.where(positives, log_p, 0.0).sum(dim=1) / positives.sum(dim=1)).mean()


def mine_positives(keys: Float[Tensor, "b d"], queue: Float[Tensor, "m d"], count: int) -> Bool[Tensor, "b n"]:
    """Return which of a batch's keys and a queue, n = b + m, are positives of each row: the own key, and those of the
    queue whose clips are the `count` nearest, by cosine, in these rows of another stream (Han et al. 2020, CoCLR)."""
    near = F.normalize(keys.float(), dim=-1) @ F.normalize(queue.float(), dim=-1).T
    chosen = torch.zeros_like(near, dtype=torch.bool).scatter(1, near.topk(count, dim=1).indices, True)
    return torch.cat([torch.eye(len(keys), dtype=torch.bool, device=keys.device), chosen], dim=1)


def sigmoid_contrastive(
    a: Float[Tensor, "b d"], b: Float[Tensor, "b d"], *, log_scale: Float[Tensor, ""], bias: Float[Tensor, ""]
) -> LossAndParts:
    """Return the pairwise sigmoid loss -1/b sum_ij log sigmoid(z_ij (exp(log_scale) a_i b_j + bias)), z_ij = 1 on the
    diagonal and -1 off it (Zhai et al. 2023, SigLIP)."""
    logits = log_scale.exp() * F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T + bias
    own = torch.eye(len(a), dtype=torch.bool, device=a.device)
    hits = (logits.argmax(dim=1) == torch.arange(len(a), device=a.device)).float().mean()
    return loss_of_signs(logits, own), {"accuracy": hits.detach()}


def loss_of_signs(
    logits: Float[Tensor, "b m"], positives: Bool[Tensor, "b m"], compared: Bool[Tensor, "b m"] | None = None
) -> Float[Tensor, ""]:
    """Return -1/b sum_ij log sigmoid(z_ij logits_ij), z_ij = 1 of positives, -1 of others, over the `compared` pairs;
    None: all."""
    losses = -F.logsigmoid(torch.where(positives, logits, -logits))
    return (losses if compared is None else torch.where(compared, losses, 0.0)).sum() / len(logits)


def wasserstein_dependency(scores: Float[Tensor, "b b"]) -> LossAndParts:
    """Return -(E_p(x,y) f - E_p(x)p(y) f) of a critic's scores f(x_i, y_j), which is to be 1-Lipschitz (Ozair et al.
    2019): the Wasserstein distance takes the place of KL in mutual information. Raises VidgenError for one
    pair."""
    check_batch(len(scores))
    b = len(scores)
    joint = scores.diagonal().mean()
    marginal = (scores.sum() - scores.diagonal().sum()) / (b * (b - 1))
    return marginal - joint, {"joint": joint.detach(), "marginal": marginal.detach()}


def cycle_contrastive(
    frames: Float[Tensor, "b t d"], videos: Float[Tensor, "b d"], *, temperature: float = 0.1
) -> LossAndParts:
    """Return the loss of a cycle from a frame to videos and back: its soft nearest video, by cosine, is to be nearest
    to that frame's own video among all frames' (Kong et al. 2020, CCL).

        v~ = sum_j softmax_j(f_i v_j / T) v_j
        loss = -log sum_{f of the own video} exp(v~ f / T) / sum_f exp(v~ f / T)

    Raises VidgenError for one clip.
    """
    check_batch(len(videos))
    t = frames.shape[1]
    f = F.normalize(frames.float().flatten(0, 1), dim=-1)
    v = F.normalize(videos.float(), dim=-1)
    nearest = F.normalize((f @ v.T / temperature).softmax(dim=1) @ v, dim=-1)
    own = torch.arange(len(f), device=f.device) // t
    return multi_positive_nce(nearest, f, own[:, None] == own, temperature=temperature)
