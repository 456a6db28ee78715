"""The head of a prior over continuous tokens: a small network that denoises one token, given what comes before it.

Li et al. 2024 (MAR, "Autoregressive image generation without vector quantization"): the transformer gives a vector z of
each token, and p(x | z) is the law of a diffusion model, here along straight lines (flow matching, Lipman et al. 2023).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.diffusion.noise import TimeDistribution, draw_normal
from vidgen.models.dit.transformer import LEVEL_WAVES, make_level_embedding, start_as_zero
from vidgen.models.layers import FeedForward, sinusoidal

HEAD_RATIO = 2  # the feed-forward's hidden width over the head's


class HeadBlock(nn.Module):
    """A residual feed-forward whose norm, and whose own share, the condition sets (adaLN-Zero, Peebles & Xie 2023)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 3 * width)
        self.mlp = FeedForward(width, HEAD_RATIO)

    def forward(self, x: Float[Tensor, "m d"], condition: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
        """Return the block's output."""
        shift, scale, gate = self.modulation(condition).chunk(3, dim=-1)
        return x + gate * self.mlp(self.norm(x) * (1.0 + scale) + shift)


class DiffusionHead(nn.Module):
    """The velocity of one token at a noise level, given z (MAR, section 3.2: an MLP of residual blocks).

    Args:
        channels: Of a token.
        width: Of the head.
        depth: Blocks.
        condition_width: Of z.
    """

    def __init__(self, channels: int, width: int, depth: int, condition_width: int) -> None:
        super().__init__()
        self.channels = channels
        self.token_in = nn.Linear(channels, width)
        self.condition_in = nn.Linear(condition_width, width)
        self.level = make_level_embedding(width)
        self.blocks = nn.ModuleList([HeadBlock(width) for _ in range(depth)])
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation_out = nn.Linear(width, 2 * width)
        self.token_out = nn.Linear(width, channels)
        start_as_zero([*(block.modulation for block in self.blocks), self.modulation_out, self.token_out])

    def predict(self, x: Float[Tensor, "b k d"], places: Int[Tensor, "*b k"]) -> Float[Tensor, "b k d"]:
        """Return z of each token, which is the transformer's output; places do not matter."""
        return x

    def forward(self, x: Float[Tensor, "m c"], t: Float[Tensor, " m"], z: Float[Tensor, "m z"]) -> Float[Tensor, "m c"]:
        """Return the velocity eps - x0 of tokens at noise levels t."""
        dtype = self.token_in.weight.dtype
        waves = sinusoidal(t, LEVEL_WAVES).to(dtype)
        condition = nn.functional.silu(self.level(waves) + self.condition_in(z.to(dtype)))
        y = self.token_in(x.to(dtype))
        for block in self.blocks:
            y = block(y, condition)
        shift, scale = self.modulation_out(condition).chunk(2, dim=-1)
        return self.token_out(self.norm_out(y) * (1.0 + scale) + shift)


def flow_losses(
    head: Callable[[Tensor, Tensor, Tensor], Tensor],
    z: Float[Tensor, "b n z"],
    tokens: Float[Tensor, "b n c"],
    time: TimeDistribution,
    generator: torch.Generator,
    draws: int = 4,
) -> Float[Tensor, "b n"]:
    """Return the flow-matching loss of each token: the mean of |v(x_t, t, z) - (eps - x0)|^2 over its channels and over
    `draws` of (t, eps), t from `time`, which cost little beside the transformer (MAR, section 3.2).

    Where a token's law given z is normal, of spread s in each channel, the least mean for t uniform is pi s / 2.
    """
    b, n, c = tokens.shape
    t = time.sample((draws, b, n), generator).to(z.device)
    eps = draw_normal((draws, b, n, c), generator).to(z.device)
    x0 = tokens.to(eps.dtype).expand_as(eps)
    x_t = (1.0 - t[..., None]) * x0 + t[..., None] * eps
    rows = z.expand(draws, *z.shape).flatten(0, 2)
    velocity = head(x_t.flatten(0, 2), t.flatten(), rows).to(eps.dtype).reshape(eps.shape)
    return (velocity - (eps - x0)).square().mean(dim=(0, 3))
