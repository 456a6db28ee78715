"""Latents at noise levels by inversion: where the probability flow takes a clip, in the place of random noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.paths import expand_level
from vidgen.interfaces import Pipeline
from vidgen.samplers.inversion import NEAR_CLEAN, invert
from vidgen.samplers.solvers.registry import SAMPLERS

Latents = Float[Tensor, "b c t h w"]


@dataclass(frozen=True, kw_only=True)
class InvertedNoise:
    """The `noise` of a `FeatureExtractor` that runs a pipeline's probability flow backwards (Song et al. 2021, DDIM,
    section 5.4): what its denoiser then sees is of this clip alone, and sampling from it gives the clip back.

    steps: from clean latents to pure noise; a lower level takes its share, one at least. All levels of a call lie on
    one way. sampler: any solver that draws nothing.
    """

    pipe: Pipeline
    prompt: str = ""
    steps: int = 20
    sampler: str = "heun"
    random: bool = False

    @property
    def name(self) -> str:
        """What this noise is called in reports and banks."""
        return f"inverted, {self.sampler} {self.steps}"

    def __call__(self, x0: Latents, levels: Sequence[float], ids: Sequence[int | str], draw: int = 0) -> list[Latents]:
        """Return x_t at each level. Raises ValueError for a solver that draws noise."""
        denoise, path = self.pipe.unguided([self.prompt] * len(x0)), self.pipe.path
        latents: dict[float, Latents] = {0.0: x0}
        x, last = x0, 0.0
        for level in sorted({float(level) for level in levels} - {0.0}):
            count = max(1, ceil(self.steps * (level - last)))
            times = torch.linspace(last, level, count + 1, dtype=torch.float64)
            if level <= NEAR_CLEAN:  # the way starts no nearer to the data: there is no noise to speak of
                latents[level] = path.alpha(expand_level(times[-1], x0)) * x0
                continue
            x = (
                invert(denoise, x, times.flip(0), path, sampler=self.sampler)
                if last == 0.0
                else SAMPLERS[self.sampler](denoise, x, times, path)
            )
            latents[level], last = x, level
        return [latents[float(level)] for level in levels]
