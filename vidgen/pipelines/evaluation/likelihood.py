"""How probable clips are to a model: the exact likelihood of its probability flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import sample_generator
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.inversion import log_likelihood


def bits_per_dimension(
    pipe: VideoPipeline,
    latents: Float[Tensor, "b c t h w"],
    prompts: Sequence[str],
    *,
    steps: int = 32,
    probes: int = 1,
    seed: int = 0,
) -> Float[Tensor, " b"]:
    """Return -log2 p(latents | prompt) of clips, over how many numbers each has: lower is more probable.

    Raises VidgenError for prompts that are too long.

    Args:
        pipe: Its denoiser is run without guidance.
        latents: Clean latents, as `pipe.vae.encode` gives them.
        prompts: One a clip; "" for none.
        steps: From data to noise, of four evaluations each.
        probes: Random vectors that the divergence is estimated with, see `log_likelihood`.
        seed: Of those, clip by clip.
    """
    generators = [sample_generator(seed, i) for i in range(len(latents))]
    times = pipe.time_for(tuple(latents.shape[1:])).steps(steps)
    nats = log_likelihood(pipe.unguided(prompts), latents, times, pipe.path, generator=generators, probes=probes)
    return -nats / (math.log(2.0) * latents[0].numel())
