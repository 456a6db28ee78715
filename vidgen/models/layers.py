"""Layers of transformers over clips: embeddings of noise level and position, attention, feed-forward."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.models.attention import Heads, find_attention


def sinusoidal(t: Float[Tensor, ...], width: int, scale: float = 1000.0) -> Float[Tensor, "... width"]:
    """Sines and cosines of `scale` t at `width` / 2 frequencies from 1 to 1e-4 (Vaswani et al. 2017, section 3.5)."""
    steps = torch.arange(width // 2, device=t.device, dtype=torch.float32)
    angles = scale * t[..., None].float() * torch.exp(-math.log(1e4) * steps / (width // 2))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


# Wavelengths of positions, in cells of the transformer's grid. Grids are small: a text model's wavelengths, up to
# 60,000, would leave most pairs the same at every cell.
WAVELENGTHS = (4.0, 256.0)


def position_angles(shape: tuple[int, int, int], pairs: int, device: torch.device | str = "cpu") -> Tensor:
    """Angles (t*h*w, pairs) of 3-D positions, one axis after the other: a quarter of the pairs turns with t, the rest
    is shared by h and w, each axis with wavelengths spaced geometrically over `WAVELENGTHS`."""
    share_t = pairs // 4
    share_h = (pairs - share_t) // 2
    shortest, longest = WAVELENGTHS
    parts = []
    for axis, share in enumerate((share_t, share_h, pairs - share_t - share_h)):
        spacing = torch.arange(share, device=device) / max(share - 1, 1)
        frequencies = 2.0 * math.pi / shortest * torch.exp(-math.log(longest / shortest) * spacing)
        angles = torch.arange(shape[axis], device=device)[:, None] * frequencies
        index = [None, None, None, slice(None)]
        index[axis] = slice(None)
        parts.append(angles[tuple(index)].expand(*shape, share))
    return rearrange(torch.cat(parts, dim=-1), "t h w p -> (t h w) p")


def rotate(x: Float[Tensor, "b heads n d"], angles: Float[Tensor, "n p"]) -> Float[Tensor, "b heads n d"]:
    """Turns the pair (x_i, x_{i + d/2}) of each position by its angle, so that dot products see differences of
    positions (rotary positions, Su et al. 2021, eq. 34)."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Attention(nn.Module):
    """Multi-head attention, queries and keys normalised (Dehghani et al. 2023, section 2); `context` None is self.

    While `identity` is set, self-attention gives each position its own value (perturbed-attention guidance).
    """

    def __init__(self, width: int, head_dim: int, context_width: int | None = None) -> None:
        super().__init__()
        self.head_dim, self.backend, self.identity = head_dim, "auto", False
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(context_width or width, 2 * width)
        self.norm_q = nn.LayerNorm(head_dim, bias=False)
        self.norm_k = nn.LayerNorm(head_dim, bias=False)
        self.out = nn.Linear(width, width)

    def project(self, x: Float[Tensor, "b n d"], context: Float[Tensor, "b m e"] | None = None) -> tuple[Heads, ...]:
        """Queries of `x`, keys and values of `context`; queries and keys are normalised, and not turned yet."""
        q = rearrange(self.to_q(x), "b n (k d) -> b k n d", d=self.head_dim)
        k, v = rearrange(
            self.to_kv(x if context is None else context), "b n (s k d) -> s b k n d", s=2, d=self.head_dim
        )
        return self.norm_q(q).to(v.dtype), self.norm_k(k).to(v.dtype), v

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m e"] | None = None,
        mask: Bool[Tensor, "b m"] | None = None,
        angles: Float[Tensor, "n p"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        q, k, v = self.project(x, context)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        seen = v if self.identity else find_attention(self.backend)(q, k, v, mask)
        return self.out(rearrange(seen, "b k n d -> b n (k d)"))


class FeedForward(nn.Module):
    """Linear, GELU (tanh form), linear, with `ratio` times the width between."""

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        return self.down(F.gelu(self.up(x), approximate="tanh"))
