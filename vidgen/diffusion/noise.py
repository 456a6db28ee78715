"""Randomness and noise levels: one stream per sample, drawn on CPU; one distribution of t for trainer and sampler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.bounds import Choice, Positive, Range, check_fields
from vidgen.diffusion.paths import PATHS
from vidgen.errors import VidgenError

Generators = torch.Generator | Sequence[torch.Generator]


def draw_normal(shape: Sequence[int], generator: torch.Generator | None = None) -> Float[Tensor, ...]:
    """Draw standard normal noise in float32 on CPU, whatever device and dtype will use it: a seed means one thing."""
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32)


def sample_generator(seed: int, sample_id: int | str = 0) -> torch.Generator:
    """Return the generator of one sample, a function of (seed, id) alone: batch size and order change no clip."""
    import hashlib

    digest = hashlib.sha256(f"{seed}:{sample_id}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_per_sample(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Float[Tensor, "b ..."]:
    """Draw once per generator, stacked: noise of shape (len(generators), *shape)."""
    return torch.stack([draw_normal(shape, g) for g in generators])


def draw_like(x: Float[Tensor, "b ..."], generator: Generators | None) -> Float[Tensor, "b ..."]:
    """Draw noise of the shape, dtype and device of x.

    Of a list of generators one stream a sample, so that no sample depends on its batch; of one generator (None: torch's
    own) the whole batch at once. Raises ValueError for a list of another length.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return draw_normal(x.shape, generator).to(x)
    if len(generator) != len(x):
        raise ValueError(f"{len(generator)} generators for {len(x)} samples: one a sample, or a single one")
    return draw_per_sample(x.shape[1:], generator).to(x)


# Densities of t by name, each with the fields of TimeDistribution that shape it.
DENSITIES: dict[str, tuple[str, ...]] = {
    "uniform": (),
    "logit_normal": ("mean", "std"),
    "mode": ("mode_scale",),
    "log_normal": ("mean", "std"),
}
MODE_RANGE = (-1.0, 2.0 / (math.pi - 2.0))  # where the mode density's quantile function is monotone


@dataclass(frozen=True, kw_only=True)
class TimeDistribution:
    """How noise levels t in [0, 1] are spread.

    Training draws t from `density` and then applies `shift`. Sampling ignores `density`: its steps are even, then
    shifted.

    `density`:
    - "uniform";
    - "logit_normal", t = sigmoid(mean + std n) (Esser et al. 2024, eq. 19);
    - "mode", heavier in the middle for `mode_scale` > 0, at the ends below (the same paper, eq. 20);
    - "log_normal", ln(sigma / alpha) = mean + std n on `path` (Karras et al. 2022, table 1: mean -1.2, std 1.2); on the
      flow path that is "logit_normal".

    `shift` >= 1 moves weight to noisier levels, t' = shift t / (1 + (shift - 1) t) (Esser et al., eq. 23), both in
    training and in the sampler's steps, so the two cannot disagree. `for_size` lets it grow with the clip: linearly
    with the tokens of a frame beyond `base_tokens`, by `shift_per_token` each, and with frames to the power
    `frames_power` (Open-Sora 2.0: 2 / 3840 from 256 tokens on, and 0.5). `highest` is the noisiest level of both, which
    a network that predicts eps needs to be below 1. `path` is that of training and sampling.
    """

    density: Annotated[str, Choice(DENSITIES)] = "uniform"
    mean: Annotated[float, Range(-1e3, 1e3)] = 0.0
    std: Positive = 1.0
    shift: Positive = 1.0
    mode_scale: Annotated[float, Range(*MODE_RANGE)] = 1.29
    path: Annotated[str, Choice(PATHS)] = "flow"
    base_tokens: Annotated[int, Range(0, 10**9)] = 256
    shift_per_token: Annotated[float, Range(-1e3, 1e3)] = 0.0
    frames_power: Annotated[float, Range(-16.0, 16.0)] = 0.0
    highest: Annotated[float, Range(0.0, 1.0, above=True)] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def for_size(self, tokens: int, frames: int) -> TimeDistribution:
        """Return the distribution for clips of `frames` latent frames of `tokens` tokens each, its shift fixed."""
        grown = self.shift + self.shift_per_token * (tokens - self.base_tokens)
        if grown <= 0:
            raise VidgenError(
                f"the shift is {grown:.3g} at {tokens} tokens a frame; it must stay above 0: lower shift_per_token"
            )
        return replace(self, shift=grown * frames**self.frames_power, shift_per_token=0.0, frames_power=0.0)

    def shifted(self, t: Tensor) -> Tensor:
        """Return levels moved by the shift, and scaled to at most `highest`."""
        return self.highest * self.shift * t / (1.0 + (self.shift - 1.0) * t)

    def quantile(self, u: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Return the level below which a fraction `u` of training draws lies (the inverse of their distribution)."""
        if self.density == "mode":
            u = u + self.mode_scale * (u - torch.sin(0.5 * math.pi * u) ** 2)
        elif self.density != "uniform":
            normal = self.mean + self.std * math.sqrt(2.0) * torch.erfinv(2.0 * u.double() - 1.0)
            if self.density == "logit_normal":
                t = torch.sigmoid(normal)
            else:
                # alpha and sigma of this ratio, neither of which overflows
                path = PATHS[self.path]()
                t = path.level(torch.sigmoid(-normal), torch.sigmoid(normal)).clamp(max=1.0)
            u = t.to(u.dtype)
        return self.shifted(u)

    def sample(self, shape: Sequence[int], generator: torch.Generator | None = None) -> Float[Tensor, ...]:
        """Draw training levels of a shape, float32 on CPU; (b, f) draws one for each frame."""
        return self.quantile(torch.rand(tuple(shape), generator=generator))

    def stratified(self, n: int) -> Float[Tensor, " n"]:
        """Return n fixed levels at the middles of n equally probable strata: what a validation loss is measured at."""
        return self.quantile((torch.arange(n) + 0.5) / n)

    def steps(self, num_inference_steps: int) -> Float[Tensor, " n_plus_1"]:
        """Return the sampler's `num_inference_steps` + 1 levels from `highest` to 0, evenly spaced before the shift.

        Only the shift applies here: the density says where training spends its effort, not where the path runs.
        """
        if num_inference_steps < 1:
            raise VidgenError(f"num_inference_steps is {num_inference_steps}; it must be 1 or more")
        return self.shifted(torch.linspace(1.0, 0.0, num_inference_steps + 1, dtype=torch.float64))

    def to_dict(self) -> dict:
        """Return the fields as plain data."""
        return asdict(self)
