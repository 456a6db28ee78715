"""The recurrent probe: an LSTM over frames, for labels that depend on their order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.representations.probes.fitting import RateAndDecay

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

    def optimizer(self, choices: Sequence[RateAndDecay]) -> torch.optim.Optimizer:
        """Return AdamW with a group for each member."""
        members = zip(choices, self.cells, self.outs, strict=True)
        groups = [
            {"params": [*cell.parameters(), *out.parameters()], "lr": lr, "weight_decay": wd}
            for (lr, wd), cell, out in members
        ]
        return torch.optim.AdamW(groups, foreach=True)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "g b o"]:
        """Return the outputs of every probe."""
        last = [cell(x)[1][0][0] for cell in self.cells]  # b d
        return torch.stack([out(h) for out, h in zip(self.outs, last, strict=True)])
