"""Forecasts of embeddings: draws of what comes after those that are seen, in the space of an encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.models.priors.forecaster import EmbeddingForecaster
from vidgen.pipelines.priors.decoding import TokenRequest, decode_tokens
from vidgen.samplers.autoregressive.continuous import HeadSampling


@torch.inference_mode()
def forecast_embeddings(
    forecaster: EmbeddingForecaster,
    seen: Float[Tensor, "b k c"],
    count: int,
    generators: Sequence[torch.Generator],
    *,
    num_inference_steps: int = 8,
    num_diffusion_steps: int = 25,
    temperature: float = 1.0,
) -> Float[Tensor, "b n c"]:
    """Return `count` embeddings that may come after those that are `seen`, k >= 0: one draw of each sequence.

    Raises VidgenError for embeddings of another width, and a count below 1.

    Args:
        forecaster: The law of embeddings.
        seen: The first of each sequence.
        count: How many are forecast.
        generators: One a sequence, on the CPU.
        num_inference_steps: Of a forecaster of order "masked", which fills in so many times.
        num_diffusion_steps: Of the solver that draws an embedding.
        temperature: Of its noise; 0 goes to the centre of the law.
    """
    channels = forecaster.config.channels
    if seen.ndim != 3 or seen.shape[-1] != channels or count < 1:
        raise VidgenError(
            f"{count} embeddings cannot follow {tuple(seen.shape)}: give (b, k, {channels}), and a count of 1 or more"
        )
    request = TokenRequest(
        grid=(seen.shape[1] + count, 1, 1),
        usual_frames=int(forecaster.length),
        text=None,
        negative=None,
        scale=1.0,
        sampling=HeadSampling(
            head=forecaster.prior.head,
            channels=channels,
            time=TimeDistribution(),
            num_diffusion_steps=num_diffusion_steps,
            temperature=temperature,
        ),
        generators=generators,
        steps=num_inference_steps,
        decoder="",
        prefix=forecaster.standardize(seen),
    )
    return forecaster.restore(decode_tokens(forecaster.prior, request)[:, seen.shape[1] :])
