"""diffusers' schedulers as solvers: one adapter, whatever scale a scheduler keeps its sample in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import Generators
from vidgen.diffusion.paths import ProbabilityPath
from vidgen.diffusion.prediction_types import convert_prediction
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.samplers.solvers.runge_kutta import path_radius
from vidgen.samplers.solvers.stepping import Callback, Clip, Times, check_finite, end_step


def flow_scale(scheduler: Any, i: int) -> tuple[Tensor, Tensor]:
    """Return (1 - sigma, sigma) of step i."""
    sigma = scheduler.sigmas[i].double()
    return 1.0 - sigma, sigma


def exploding_scale(scheduler: Any, i: int) -> tuple[Tensor, Tensor]:
    """Return (1, sigma) of step i."""
    sigma = scheduler.sigmas[i].double()
    return torch.ones_like(sigma), sigma


def preserving_scale(scheduler: Any, i: int) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma of unit square sum at step i, or those of `flow_scale` for flow sigmas."""
    if scheduler.config.use_flow_sigmas:
        return flow_scale(scheduler, i)
    sigma = scheduler.sigmas[i].double()
    return 1.0 / (1.0 + sigma**2).sqrt(), sigma / (1.0 + sigma**2).sqrt()


def discrete_scale(scheduler: Any, i: int) -> tuple[Tensor, Tensor]:
    """Return the square roots of the cumulated alpha at the timestep of step i, and of what is left of 1."""
    if i == len(scheduler.timesteps):
        alpha_bar = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0))
    else:
        alpha_bar = scheduler.alphas_cumprod[scheduler.timesteps[i].long().cpu()]
    return alpha_bar.double().sqrt(), (1.0 - alpha_bar.double()).sqrt()


# (alpha, sigma) of the sample that the i-th step takes, the last being what is left at the end.
SCALES: dict[str, Callable[[Any, int], tuple[Tensor, Tensor]]] = {
    "FlowMatchEulerDiscreteScheduler": flow_scale,
    "FlowMatchHeunDiscreteScheduler": flow_scale,
    "EulerDiscreteScheduler": exploding_scale,
    "EulerAncestralDiscreteScheduler": exploding_scale,
    "HeunDiscreteScheduler": exploding_scale,
    "LMSDiscreteScheduler": exploding_scale,
    "DPMSolverMultistepScheduler": preserving_scale,
    "DPMSolverSinglestepScheduler": preserving_scale,
    "UniPCMultistepScheduler": preserving_scale,
    "DEISMultistepScheduler": preserving_scale,
    "DDIMScheduler": discrete_scale,
    "DDPMScheduler": discrete_scale,
}

# These draw no noise, and their `step` takes no generator.
WITHOUT_NOISE = (
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
)


def find_scale(scheduler: Any) -> Callable[[Any, int], tuple[Tensor, Tensor]]:
    """Return the scale of a scheduler. Raises VidgenError where it is not known: a wrong one would sample nonsense."""
    name = type(scheduler).__name__
    if name not in SCALES:
        raise VidgenError(f"scheduler {name} is not one that vidgen can drive; use one of {', '.join(SCALES)}")
    return SCALES[name]


def scheduler_levels(scheduler: Any, num_inference_steps: int, path: ProbabilityPath) -> Float[Tensor, " n_plus_1"]:
    """Return the levels t of `path` that a scheduler steps through: its own schedule, with its shift and spacing.

    Of schedulers that go twice to a level (Heun) it is there twice. VidgenError where the path has no such level.
    """
    scale = find_scale(scheduler)
    scheduler.set_timesteps(num_inference_steps)
    return current_levels(scheduler, scale, path)


def current_levels(
    scheduler: Any, scale: Callable[[Any, int], tuple[Tensor, Tensor]], path: ProbabilityPath
) -> Float[Tensor, " n_plus_1"]:
    """Return the levels of `path` at which a scheduler's steps, as they are set, take their samples."""
    pairs = [scale(scheduler, i) for i in range(len(scheduler.timesteps) + 1)]
    levels = torch.stack([path.level(alpha, sigma) for alpha, sigma in pairs])
    if not bool((levels <= 1.0 + 1e-6).all()):  # of alpha = 0 on the EDM path, infinity
        raise VidgenError(
            f"{type(scheduler).__name__} starts with more noise than {type(path).__name__} ends with; "
            "choose another of its schedules, or another scheduler"
        )
    return levels


def steps_of(scheduler: Any, count: int) -> int:
    """Return the number of steps that a scheduler is set to for `count` calls of its network: Heun's calls it twice in
    all steps but the last."""
    return (count + 1) // 2 if "Heun" in type(scheduler).__name__ else count


def driven_solver(scheduler: Any) -> Callable[..., Clip]:
    """Return `scheduler_solver` for `times` that are all of the scheduler's own levels, as `current_levels` gives them.

    Raises VidgenError for other levels: its steps start at its noisiest one, and are the same for all frames.
    """
    solve = scheduler_solver(scheduler)

    def sample_driven(denoise: Denoiser, x: Clip, times: Times, path: ProbabilityPath, **settings: Any) -> Clip:
        name = type(scheduler).__name__
        steps = steps_of(scheduler, len(times) - 1)
        levels = scheduler_levels(scheduler, steps, path)
        if times.ndim > 1 or times.shape != levels.shape or not torch.allclose(times.to(levels), levels, atol=1e-6):
            raise VidgenError(
                f"this model's {name} runs all of its own steps, for whole clips: with known frames or a strength "
                "below 1 choose a sampler, such as euler"
            )
        return solve(denoise, x, torch.linspace(1.0, 0.0, steps + 1), path, **settings)

    return sample_driven


def scheduler_solver(scheduler: Any) -> Callable[..., Clip]:
    """Return a solver (denoise, x, times, path) out of a diffusers scheduler, one of SCALES, of any prediction type.

    Of `times` only their number counts, since the schedule is the scheduler's own; x is taken to be at its first
    level. The scheduler's state is set anew by each call. Raises VidgenError for schedulers of other classes.
    """
    scale = find_scale(scheduler)
    kind = "flow_prediction" if scale is flow_scale else scheduler.config.prediction_type

    def sample_scheduler(
        denoise: Denoiser,
        x: Clip,
        times: Times,
        path: ProbabilityPath,
        *,
        generator: Generators | None = None,
        callback: Callback | None = None,
    ) -> Clip:
        levels = scheduler_levels(scheduler, len(times) - 1, path)
        noise = {} if type(scheduler).__name__ in WITHOUT_NOISE else {"generator": generator}
        for i, timestep in enumerate(scheduler.timesteps):
            alpha, sigma = scale(scheduler, i)
            ratio = torch.hypot(alpha, sigma).to(x) / path_radius(levels[i], path).to(x)  # their sample over our x
            x0 = check_finite(denoise(x, levels[i]), x, levels[i], i, len(scheduler.timesteps))
            sample = ratio * x
            if hasattr(scheduler, "scale_model_input"):  # some warn if it was not called; x is scaled already
                scheduler.scale_model_input(sample, timestep)
            output = convert_prediction(x0, "sample", kind, sample, alpha.to(x), sigma.to(x))
            sample = scheduler.step(output, timestep, sample, return_dict=False, **noise)[0]
            alpha, sigma = scale(scheduler, i + 1)
            x = sample.to(x) * path_radius(levels[i + 1], path).to(x) / torch.hypot(alpha, sigma).to(x)
            x = end_step(callback, i, x, x0)
        return x

    return sample_scheduler
