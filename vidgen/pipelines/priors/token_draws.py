"""What a call says of how tokens are drawn, read into the draws of codes or of continuous tokens."""

from __future__ import annotations

from vidgen.errors import VidgenError
from vidgen.interfaces import TokenDraws
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.autoregressive.continuous import HeadSampling


def read_draws(
    prior: TokenPrior,
    schedule: PriorSchedule,
    scale: float,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    num_diffusion_steps: int | None = None,
) -> TokenDraws:
    """Return how a prior's tokens are drawn: what is None has the schedule's default, or leaves the law alone.

    Raises VidgenError for settings that these tokens do not have, and for values out of bounds, 0 being one of them.

    Args:
        prior: The prior.
        schedule: Its defaults.
        scale: Of guidance, which continuous tokens have in their draws.
        temperature, top_k, top_p, min_p, repetition_penalty: As of `TokenSampling`; continuous tokens have temperature
            alone.
        num_diffusion_steps: Of the solver that draws a continuous token.
    """
    temperature = schedule.temperature if temperature is None else temperature
    filters = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty}
    said = {name: value for name, value in filters.items() if value is not None}
    if prior.config.channels == 0:
        if num_diffusion_steps is not None:
            raise VidgenError("num_diffusion_steps is for continuous tokens, and this prior's are codes; leave it out")
        defaults = {"top_k": schedule.top_k, "top_p": schedule.top_p, "min_p": schedule.min_p}
        return TokenSampling(temperature=temperature, **(defaults | said))
    if said:
        verb = "is" if len(said) == 1 else "are"
        raise VidgenError(
            f"{' and '.join(said)} {verb} for codes, and this prior's tokens are continuous; use temperature"
        )
    return HeadSampling(
        head=prior.head,
        channels=prior.config.channels,
        time=schedule.time_distribution,
        num_diffusion_steps=schedule.num_diffusion_steps if num_diffusion_steps is None else num_diffusion_steps,
        sampler=schedule.sampler,
        scale=scale,
        temperature=temperature,
    )
