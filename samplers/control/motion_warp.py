"""Motion warp: a first frame, partly denoised and moved, gets noise again, and all frames start from it.

Moving it is `warp` by a motion field (Khachatryan et al. 2023, Text2Video-Zero: motion dynamics), or `drag_box`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.paths import ProbabilityPath
from vidgen.errors import VidgenError


def jump_to_level(
    x: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    level: float,
    target: float,
    path: ProbabilityPath,
) -> Float[Tensor, "b c t h w"]:
    """Return x_t of `target`, drawn given x_s of a lower `level` (Ho et al. 2020, DDPM, eq. 4, between any two levels).

    x_t = r x_s + sqrt(sigma_t^2 - r^2 sigma_s^2) noise with r = alpha_t / alpha_s: the law of x_t is the path's own.
    Raises VidgenError for a target below the level.
    """
    if not 0.0 <= level <= target <= 1.0:
        raise VidgenError(f"from noise level {level:g} to {target:g}: noise is added, so give 0 <= from <= to <= 1")
    s, t = (torch.tensor(value, dtype=torch.float64) for value in (level, target))
    ratio = path.alpha(t) / path.alpha(s)
    spread = (path.sigma(t) ** 2 - (ratio * path.sigma(s)) ** 2).clamp(min=0.0).sqrt()
    return ratio.to(x) * x + spread.to(x) * noise


def jump_start(
    x: Float[Tensor, "b c t h w"], noise: Float[Tensor, "b c t h w"], level: float, target: float, path: ProbabilityPath
) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "b c t h w"]]:
    """Return a clip and noise of which the path makes at `target` what `jump_to_level` does of x_s and the noise.

    So a call that starts from a clip at a noise level (`FrameConditioning.of_start`, with the noise as its `latents`)
    starts from the jump.
    """
    s, t = (torch.tensor(value, dtype=torch.float64) for value in (level, target))
    spread = jump_to_level(torch.zeros_like(noise), noise, level, target, path)
    return x / path.alpha(s).to(x), spread / path.sigma(t).to(noise)
