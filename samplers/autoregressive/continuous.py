"""Draws of continuous tokens: a solver runs over the head of a prior, from noise to a token, given z of its place.

Li et al. 2024 (MAR, section 3.2): the head's diffusion is the law of one token, as logits are of an id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.bounds import GuidanceScale, InferenceSteps, Range, check_fields
from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import Generators, TimeDistribution, draw_normal
from vidgen.diffusion.paths import PATHS
from vidgen.errors import VidgenError
from vidgen.interfaces import MaskedLogits
from vidgen.samplers.guidance.batched_guidance import batched
from vidgen.samplers.guidance.rules import cfg
from vidgen.samplers.solvers import find_solver

Head = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x (m, c), t (m,), z (m, d)) -> velocity (m, c)


@dataclass(frozen=True, kw_only=True)
class HeadSampling:
    """How continuous tokens are drawn (a `TokenDraws`). Raises VidgenError for what is out of bounds.

    Args:
        head: The velocity eps - x0 of tokens.
        channels: Of a token.
        time: The levels of the steps; its path is that of training.
        num_diffusion_steps: Of the solver, for each token.
        sampler: One of SAMPLERS that draws no noise on the way.
        scale: Of guidance of the velocity; above or below 1 a model's outputs are pairs, see `pair_conditions`.
        temperature: The noise that the solver starts from is so many times as large (0: the flow's centre); of a normal
            law it is what the spread is multiplied by.
    """

    head: Head
    channels: int
    time: TimeDistribution = field(default_factory=TimeDistribution)
    num_diffusion_steps: InferenceSteps = 25
    sampler: str = "heun"
    scale: GuidanceScale = 1.0
    temperature: Annotated[float, Range(0.0, 1000.0)] = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def draw_noise(
        self, batch: int, count: int, generators: Generators, active: Bool[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b count c"]:
        """Draw standard normal noise of `count` tokens a sample, float32 on the CPU.

        Of a list of generators one stream a sample; samples that are not `active` draw nothing, and have zeros. Raises
        VidgenError for a list of another length.
        """
        if isinstance(generators, torch.Generator):
            return draw_normal((batch, count, self.channels), generators)
        if len(generators) != batch:
            raise VidgenError(f"{len(generators)} generators for {batch} samples; give one a sample, or a single one")
        noise = torch.zeros(batch, count, self.channels)
        for row, generator in enumerate(generators):
            if active is None or bool(active[row]):
                noise[row] = draw_normal((count, self.channels), generator)
        return noise

    def draw(
        self, outputs: Float[Tensor, "m z"], noise: Float[Tensor, "m c"], tokens: Tensor, owner: Int[Tensor, " m"]
    ) -> tuple[Float[Tensor, "m c"], None]:
        """Return a token for each row of outputs. Raises SamplingError where the head gives NaN or infinity."""
        if not len(outputs):
            return noise.to(outputs), None
        path = PATHS[self.time.path]()
        times = self.time.steps(self.num_diffusion_steps).to(outputs.device)
        start = self.temperature * path.sigma(times[0]) * noise.to(outputs)
        clips = start[:, :, None, None, None].to(outputs.dtype)  # as solvers know them: a clip of one cell
        conditions = outputs.chunk(2, dim=-1) if self.scale != 1.0 else (outputs,)
        denoise = self.denoiser(conditions[0])
        if len(conditions) == 2:
            both = batched(self.denoiser(torch.cat(conditions)), 2)
            denoise = cfg(denoise, self.denoiser(conditions[1]), self.scale, both=both)
        return find_solver(self.sampler)(denoise, clips, times, path)[:, :, 0, 0, 0], None

    def denoiser(self, z: Float[Tensor, "m z"]) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the denoiser of tokens under these conditions."""

        def network(x: Float[Tensor, "m c 1 1 1"], t: Float[Tensor, " m"]) -> Float[Tensor, "m c 1 1 1"]:
            return self.head(x[:, :, 0, 0, 0], t, z)[:, :, None, None, None]

        return make_denoiser(network, PATHS[self.time.path](), "flow_prediction")


def pair_conditions(cond: Float[Tensor, "... z"], uncond: Float[Tensor, "... z"], scale: float) -> Tensor:
    """Return outputs under the condition and without, side by side, for a `HeadSampling` of that scale to guide."""
    return torch.cat([cond, uncond], dim=-1)


def pair_masked(cond: MaskedLogits, uncond: MaskedLogits) -> MaskedLogits:
    """Return the model whose outputs are those of both, see `pair_conditions`."""
    return lambda tokens: torch.cat([cond(tokens), uncond(tokens)], dim=-1)
