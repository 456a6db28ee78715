"""Walks over time between what is alike: places that come back to themselves correspond."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.train.objectives.parts import LossAndParts


def transition(
    source: Float[Tensor, "b n d"],
    target: Float[Tensor, "b m d"],
    *,
    temperature: float = 0.07,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b n m"]:
    """Return the probabilities of a step: softmax over targets of the cosine / temperature (Jabri et al. 2020).

    A share `dropout` of the edges is left out, of each node all but at least its nearest one (edge dropout).
    """
    logits = F.normalize(source.float(), dim=-1) @ F.normalize(target.float(), dim=-1).transpose(1, 2) / temperature
    if dropout:
        gone = (torch.rand(logits.shape, generator=generator) < dropout).to(logits.device)
        gone &= ~(gone.all(dim=-1, keepdim=True) & (logits == logits.amax(dim=-1, keepdim=True)))
        logits = logits.masked_fill(gone, float("-inf"))
    return logits.softmax(dim=-1)


def palindrome_walk(
    nodes: Float[Tensor, "b t n d"],
    *,
    temperature: float = 0.07,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> LossAndParts:
    """Return the loss of walks from the first frame's nodes to frame k and back, which are to end where they began, in
    the mean over k (Jabri et al. 2020, Contrastive Random Walk; cycles of tracking as Wang, Jabri & Efros 2019,
    TimeCycle).

        A_k = P_01 ... P_(k-1)k P_k(k-1) ... P_10,   loss = -mean_k mean_i log (A_k)_ii

    Parts: "accuracy", how often the own node is the likeliest end of the longest walk. Raises VidgenError for one frame
    and for one node, whose walk goes nowhere.
    """
    if nodes.shape[1] < 2 or nodes.shape[2] < 2:
        raise VidgenError(f"a walk over {nodes.shape[1]} frames of {nodes.shape[2]} nodes needs two or more of each")
    settings = {"temperature": temperature, "dropout": dropout, "generator": generator}
    forth, back, losses, walk = None, None, [], nodes
    for a, b in zip(nodes.unbind(1)[:-1], nodes.unbind(1)[1:], strict=True):
        there, here = transition(a, b, **settings), transition(b, a, **settings)
        forth = there if forth is None else forth @ there
        back = here if back is None else here @ back
        walk = forth @ back
        losses.append(-walk.diagonal(dim1=1, dim2=2).clamp(min=1e-20).log().mean())
    own = torch.arange(nodes.shape[2], device=nodes.device)
    return torch.stack(losses).mean(), {"accuracy": (walk.argmax(dim=-1) == own).float().mean().detach()}
