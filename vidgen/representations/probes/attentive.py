"""The attentive probe: a learned query attends over unpooled features; a whole grid of settings is trained as one."""

from __future__ import annotations

import math

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.noise import draw_normal, sample_generator

# V-JEPA 2's grid (Assran et al. 2025), and before it a rate for sets of a few hundred clips, where steps are few.
RATES, DECAYS = (2e-2, 5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.01, 0.1, 0.4, 0.8)
SETTINGS = tuple((rate, decay) for rate in RATES for decay in DECAYS)
MIN_HEADS, HEAD_DIM = 4, 64  # at least so many heads; of about so many channels where there are enough
PARTS = ("query", "key", "position", "value", "out", "bias")


class AttentiveGrid(nn.Module):
    """g independent probes that start alike: a learned query per attention head, cross-attention over l tokens
    (Bardes et al. 2024, section 4), and a linear map to `outputs` numbers.

    Features without positions, such as latents, get them by a learned term for every token in the attention's scores.
    There is no norm behind the attention: how much there is of something may be the answer. Each member has weights of
    its own, so that it has its own learning rate and decay; they act as one batched product.
    """

    def __init__(
        self, members: int, length: int, width: int, outputs: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        heads = max(MIN_HEADS, width // HEAD_DIM)
        d = max(1, width // heads)
        shapes = {
            "query": (heads, d),
            "key": (width, heads, d),
            "position": (heads, length),  # every head begins with a view of its own
            "value": (width, heads, d),
            "out": (heads * d, outputs),
        }
        generator = sample_generator(seed, "attentive probe")
        start = {name: draw_normal(shape, generator).to(dtype) for name, shape in shapes.items()}
        start = {name: x if name in ("query", "position") else x * x.shape[0] ** -0.5 for name, x in start.items()}
        start["bias"] = torch.zeros(outputs, dtype=dtype)
        for name in PARTS:
            setattr(self, name, nn.ParameterList(nn.Parameter(start[name].clone()) for _ in range(members)))

    def member(self, g: int) -> list[nn.Parameter]:
        """Return the parameters of probe g."""
        return [getattr(self, name)[g] for name in PARTS]

    def forward(self, x: Float[Tensor, "b l c"]) -> Float[Tensor, "g b o"]:
        """Return the outputs of every probe."""
        query, key, position, value, out, bias = (torch.stack(list(getattr(self, name))) for name in PARTS)
        # the query meets the keys' weights first, so that keys of every token need never exist
        projected = einsum(query, key, "g n d, g c n d -> g n c") / math.sqrt(query.shape[-1])
        scores = einsum(projected, x, "g n c, b l c -> g b n l") + rearrange(position, "g n l -> g 1 n l")
        attended = einsum(scores.softmax(-1), x, "g b n l, b l c -> g b n c")
        pooled = rearrange(einsum(attended, value, "g b n c, g c n d -> g b n d"), "g b n d -> g b (n d)")
        return einsum(pooled, out, "g b d, g d o -> g b o") + rearrange(bias, "g o -> g 1 o")
