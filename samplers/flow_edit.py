"""Editing without inversion: from a clip to another by the difference of its prompt's velocity and a new one's."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import Generators, draw_like
from vidgen.diffusion.paths import FlowPath, ProbabilityPath, add_noise
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.samplers.conditioning.inpainting import levels_from
from vidgen.samplers.solvers.stepping import Callback, Clip


def flow_edit(
    source: Denoiser,
    target: Denoiser,
    x: Clip,
    times: Float[Tensor, " n_plus_1"],
    path: ProbabilityPath,
    *,
    strength: float = 0.65,
    draws: int = 1,
    generator: Generators | None = None,
    callback: Callback | None = None,
) -> Clip:
    """Return clips that `target` describes, near the clips `x` that `source` does (Kulikov et al. 2025, FlowEdit,
    algorithm 1): dZ = (v_target(Z + X_t - X) - v_source(X_t)) dt, X_t being x with fresh noise at every step.

    With equal denoisers it is x itself. Raises VidgenError for a path that is not straight.

    Args:
        source: The denoiser of the clips' own prompts.
        target: That of the new ones.
        x: Clean clips.
        times: Noise levels of sampling, from 1 down to 0.
        path: That of the denoisers.
        strength: The level to start from: a higher one may change more.
        draws: Over how many noises each difference is averaged.
        generator: Of the noise, one a clip or one for all.
        callback: Called as (step, Z, its estimate) after each step.
    """
    if not isinstance(path, FlowPath):
        raise VidgenError(f"editing by velocities needs the flow path, and this model has {type(path).__name__}")
    times = levels_from(times, strength)
    z = x.clone()
    for step, (t, s) in enumerate(zip(times[:-1], times[1:], strict=True)):
        change = torch.zeros_like(x)
        for _ in range(draws):
            noisy = add_noise(x, draw_like(x, generator), t, path)
            moved = z + noisy - x
            # A velocity of the flow path is (x_t - x0) / t, so their difference is:
            change += ((moved - target(moved, t)) - (noisy - source(noisy, t))) / (t.to(x) * draws)
        z = z + (s - t).to(x) * change
        if callback is not None:
            callback(step, z, z - s.to(x) * change)
    return z
