"""The sampler's noise levels, from the same TimeDistribution that training drew from."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import TimeDistribution


def schedule(num_inference_steps: int, *, shift: float = 1.0) -> Float[Tensor, " n_plus_1"]:
    """Levels from 1 down to 0, evenly spaced and then shifted: `num_inference_steps` + 1 values in float64."""
    return TimeDistribution(shift=shift).steps(num_inference_steps)
