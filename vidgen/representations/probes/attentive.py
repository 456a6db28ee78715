"""The attentive probe: a learned query attends over unpooled features; a whole grid of settings is trained as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.representations.probes.fitting import RateAndDecay, StackedAdamW

# V-JEPA 2's grid (Assran et al. 2025), and before it a rate for sets of a few hundred clips, where steps are few. The
# rate is chosen at the first decay, and then the decay at that rate: 9 trainings stand for the grid's 24.
RATES, DECAYS = (2e-2, 5e-3, 3e-3, 1e-3, 3e-4, 1e-4), (0.1, 0.01, 0.4, 0.8)
SETTINGS = tuple((rate, DECAYS[0]) for rate in RATES)
MIN_HEADS, HEAD_DIM = 4, 64  # at least so many heads; of about so many channels where there are enough
PARTS = ("query", "key", "position", "value", "out", "bias")


def other_decays(setting: RateAndDecay) -> list[RateAndDecay]:
    """Return the settings of the same rate with the other decays."""
    rate, decay = setting
    return [(rate, other) for other in DECAYS if other != decay]


class AttentiveGrid(nn.Module):
    """g independent probes that start alike: a learned query per attention head, cross-attention over l tokens
    (Bardes et al. 2024, section 4), and a linear map to `outputs` numbers.

    Features without positions, such as latents, get them by a learned term for every token in the attention's scores.
    There is no norm behind the attention: how much there is of something may be the answer. Parameters are (g, ...):
    members act as one batched product, and each has its own learning rate and decay.
    """

    query: nn.Parameter
    key: nn.Parameter
    position: nn.Parameter
    value: nn.Parameter
    out: nn.Parameter
    bias: nn.Parameter

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
            setattr(self, name, nn.Parameter(start[name].expand(members, *start[name].shape).clone()))

    def optimizer(self, choices: Sequence[RateAndDecay]) -> torch.optim.Optimizer:
        """Return AdamW for all members."""
        return StackedAdamW(self.parameters(), choices)

    def forward(self, x: Float[Tensor, "*f b l c"]) -> Float[Tensor, "g b o"]:
        """Return the outputs of every probe; of f sets of clips each has g / f probes, one set's after the other's."""
        folds = x.shape[0] if x.ndim == 4 else 1
        x = x.reshape(folds, *x.shape[-3:])
        query, key, position, value, out, bias = (
            rearrange(getattr(self, name), "(f g) ... -> f g ...", f=folds) for name in PARTS
        )
        # the query meets the keys' weights first, so that keys of every token need never exist
        projected = einsum(query, key, "f g n d, f g c n d -> f g n c") / math.sqrt(query.shape[-1])
        scores = einsum(projected, x, "f g n c, f b l c -> f g b n l") + rearrange(position, "f g n l -> f g 1 n l")
        attended = einsum(scores.softmax(-1), x, "f g b n l, f b l c -> f g b n c")
        pooled = rearrange(einsum(attended, value, "f g b n c, f g c n d -> f g b n d"), "f g b n d -> f g b (n d)")
        outputs = einsum(pooled, out, "f g b d, f g d o -> f g b o") + rearrange(bias, "f g o -> f g 1 o")
        return rearrange(outputs, "f g b o -> (f g) b o")
