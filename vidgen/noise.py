"""Randomness and noise levels: one stream per sample, drawn on CPU; one distribution of t for trainer and sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError


def draw_normal(shape: Sequence[int], generator: torch.Generator | None = None) -> Float[Tensor, ...]:
    """Standard normal noise in float32 on CPU, whatever device and dtype will use it: a seed means one thing."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def sample_generator(seed: int, sample_id: int | str = 0) -> torch.Generator:
    """The generator of one sample: a function of (seed, id) alone, so neither batch size nor order changes a clip."""
    import hashlib

    digest = hashlib.sha256(f"{seed}:{sample_id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_per_sample(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Float[Tensor, "b ..."]:
    """One draw per generator, stacked: noise of shape (len(generators), *shape)."""
    return torch.stack([draw_normal(shape, g) for g in generators])


@dataclass(frozen=True, kw_only=True)
class TimeDistribution:
    """How noise levels t in [0, 1] are spread: drawn for training, laid out in steps for sampling.

    `density` "uniform" or "logit_normal" (Esser et al. 2024, eq. 19: t = sigmoid(mean + std n)). `shift` >= 1 moves
    weight to noisier levels, t' = shift t / (1 + (shift - 1) t) (the same paper, eq. 23), both in training and in the
    sampler's steps, so the two cannot disagree.
    """

    density: str = "uniform"
    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.density not in ("uniform", "logit_normal"):
            raise VidgenError(f"time density {self.density!r}: choose 'uniform' or 'logit_normal'")
        if self.shift <= 0 or self.std <= 0:
            raise VidgenError(f"time distribution needs shift > 0 and std > 0, got shift={self.shift} std={self.std}")

    def shifted(self, t: Tensor) -> Tensor:
        return self.shift * t / (1.0 + (self.shift - 1.0) * t)

    def quantile(self, u: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """The level below which a fraction `u` of training draws lies (inverse of the cumulative distribution)."""
        if self.density == "logit_normal":
            normal = math.sqrt(2.0) * torch.erfinv(2.0 * u.double() - 1.0)
            u = torch.sigmoid(self.mean + self.std * normal).to(u.dtype)
        return self.shifted(u)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Float[Tensor, ...]:
        """Training levels of the given shape, float32 on CPU."""
        return self.quantile(torch.rand(tuple(shape), generator=generator))

    def stratified(self, n: int) -> Float[Tensor, " n"]:
        """n fixed levels at the middles of n equally probable strata: what a validation loss is measured at."""
        return self.quantile((torch.arange(n) + 0.5) / n)

    def steps(self, num_inference_steps: int) -> Float[Tensor, " n_plus_1"]:
        """The sampler's levels from 1 down to 0, evenly spaced before the shift: `num_inference_steps` + 1 values.

        Only the shift applies here: the density says where training spends its effort, not where the path runs.
        """
        if num_inference_steps < 1:
            raise VidgenError(f"num_inference_steps is {num_inference_steps}; it must be 1 or more")
        return self.shifted(torch.linspace(1.0, 0.0, num_inference_steps + 1, dtype=torch.float64))

    def to_dict(self) -> dict:
        return asdict(self)
