"""What stands in place of attention in an encoder's blocks: convolutions around each token, or a selective scan."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.models.attention_patterns import Grid
from vidgen.models.layers import FeedForward

KERNEL = (3, 5, 5)  # tokens that a local block sees at once
STATES = 8  # of a channel of the scan


class LocalBlock(nn.Module):
    """Relations within a neighbourhood by a depthwise convolution, and a feed-forward (Li et al. 2022, UniFormer,
    section 3.2: local MHRA, with a depthwise positional convolution before it)."""

    def __init__(self, width: int, mlp_ratio: float) -> None:
        super().__init__()
        around = {"groups": width, "padding": 1}
        self.position = nn.Conv3d(width, width, 3, **around)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.relation = nn.Conv3d(width, width, KERNEL, groups=width, padding=tuple(k // 2 for k in KERNEL))
        self.mlp = FeedForward(width, mlp_ratio)

    def forward(self, x: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b n d"]:
        """Return the block's output for all tokens of a grid."""
        x = x + over_grid(self.position, x, grid)
        x = x + self.out(over_grid(self.relation, self.value(self.norm1(x)), grid))
        return x + self.mlp(self.norm2(x))


def over_grid(layer: nn.Module, x: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b n d"]:
    """Return a convolution of tokens over their grid."""
    maps = rearrange(x, "b (t h w) d -> b d t h w", t=grid[0], h=grid[1])
    return rearrange(layer(maps), "b d t h w -> b (t h w) d")


def scan(decay: Float[Tensor, "b n ..."], inputs: Float[Tensor, "b n ..."]) -> Float[Tensor, "b n ..."]:
    """Return h of h_t = decay_t h_{t-1} + inputs_t, h_0 = 0, for all t at once, by doubling: after k rounds each h has
    the last 2^k inputs in it (Hillis & Steele 1986; as Gu & Dao 2023, Mamba, section 3.3.2, scan in parallel)."""
    step = 1
    while step < decay.shape[1]:
        later = inputs[:, step:] + decay[:, step:] * inputs[:, :-step]
        inputs = torch.cat([inputs[:, :step], later], dim=1)
        decay = torch.cat([decay[:, :step], decay[:, step:] * decay[:, :-step]], dim=1)
        step *= 2
    return inputs


class SelectiveScan(nn.Module):
    """A linear recurrence of `STATES` numbers a channel whose step, input and output depend on the token (Gu & Dao
    2023, Mamba, algorithm 2).

        h_t = exp(s_t A) h_{t-1} + s_t B_t x_t,   y_t = C_t h_t + D x_t,   s_t = softplus(W x_t + b)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.rank = math.ceil(width / 16)
        self.select = nn.Linear(width, self.rank + 2 * STATES, bias=False)
        self.step = nn.Linear(self.rank, width)
        self.log_decay = nn.Parameter(torch.arange(1.0, STATES + 1).log().repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        start = torch.exp(torch.linspace(math.log(1e-3), math.log(1e-1), width))
        with torch.no_grad():
            self.step.bias.copy_(torch.log(torch.expm1(start)))  # softplus of it is `start`

    def terms(self, x: Float[Tensor, "b n d"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return decay and inputs of the recurrence (b, n, d, s), and what reads its states (b, n, s)."""
        low, inward, outward = self.select(x).split([self.rank, STATES, STATES], dim=-1)
        wide = torch.promote_types(x.dtype, torch.float32)
        step = F.softplus(self.step(low)).to(wide)
        decay = torch.exp(-step[..., None] * self.log_decay.exp())
        return decay, (step * x)[..., None] * inward.to(wide)[..., None, :], outward.to(wide)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return y of a sequence."""
        decay, inputs, outward = self.terms(x)
        states = scan(decay, inputs)
        return (states * outward[..., None, :]).sum(-1).to(x.dtype) + self.skip * x


class ScanBlock(nn.Module):
    """Scans of the tokens forwards and backwards, gated (Li et al. 2024, VideoMamba, section 3.2: bidirectional, space
    before time). Any tokens may be left out; the others keep their order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, 2 * width)
        self.forth, self.back = SelectiveScan(width), SelectiveScan(width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """Return the block's output."""
        values, gate = self.enter(self.norm(x)).chunk(2, dim=-1)
        values = F.silu(values)
        both = self.forth(values) + self.back(values.flip(1)).flip(1)
        return x + self.out(both * F.silu(gate))
