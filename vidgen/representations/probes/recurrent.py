"""The recurrent probe: an LSTM over frames, for labels that depend on their order."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

SETTINGS = tuple((rate, decay) for rate in (1e-2, 3e-3, 1e-3) for decay in (0.01, 0.4))
HIDDEN = 64


class RecurrentGrid(nn.Module):
    """g LSTMs (Hochreiter & Schmidhuber 1997) that start alike, each with a linear map from its last state."""

    def __init__(
        self, members: int, length: int, width: int, outputs: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.cells, self.outs = nn.ModuleList(), nn.ModuleList()
        for _ in range(members):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.cells.append(nn.LSTM(width, HIDDEN, batch_first=True, dtype=dtype))
                self.outs.append(nn.Linear(HIDDEN, outputs, dtype=dtype))

    def member(self, g: int) -> list[nn.Parameter]:
        """Return the parameters of probe g."""
        return [*self.cells[g].parameters(), *self.outs[g].parameters()]

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "g b o"]:
        """Return the outputs of every probe."""
        last = [cell(x)[1][0][0] for cell in self.cells]  # b d
        return torch.stack([out(h) for out, h in zip(self.outs, last, strict=True)])
