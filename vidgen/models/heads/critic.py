"""A critic that cannot be steep: a network whose output differs by no more than its inputs do."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal


class MaxMin(nn.Module):
    """Pairs of channels in order, the larger one first; of a 1-Lipschitz network, it loses no slope (Anil et al. 2019,
    GroupSort of 2)."""

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Return the channels."""
        a, b = x.chunk(2, dim=-1)
        return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], dim=-1)


def orthogonal_linear(channels_in: int, channels_out: int) -> nn.Linear:
    """Return a linear layer whose weights have orthonormal rows or columns, by Cayley's map: any step of any optimizer
    keeps them so, whereas torch's default, of Householder, has signs among its weights that a decay makes 0."""
    return orthogonal(nn.Linear(channels_in, channels_out), orthogonal_map="cayley")


class LipschitzCritic(nn.Module):
    """A score f(x, y) of pairs that is 1-Lipschitz whatever its weights: linear layers are orthogonal, and between them
    stands `MaxMin` (Anil, Lucas & Grosse 2019). It takes the place of a gradient penalty (Ozair et al. 2019).

    Args:
        width: Of x, and of y.
        hidden: Of the layers between, an even number.
        layers: 2 or more.
    """

    def __init__(self, width: int, hidden: int = 128, layers: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for i in range(layers - 1):
            parts += [orthogonal_linear(2 * width if i == 0 else hidden, hidden), MaxMin()]
        self.layers = nn.Sequential(*parts, orthogonal_linear(hidden, 1))

    def forward(self, x: Float[Tensor, "n d"], y: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs."""
        pairs = torch.cat([x[:, None].expand(-1, len(y), -1), y.expand(len(x), -1, -1)], dim=-1)
        return self.layers(pairs).squeeze(-1)
