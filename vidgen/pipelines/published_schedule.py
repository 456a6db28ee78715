"""Published schedules: path, prediction type, clock and levels, as a folder's scheduler_config.json says them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path as Folder
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.checkpoints.other_libraries import from_settings, plain_settings
from vidgen.diffusion.paths import FlowPath, ProbabilityPath, TablePath
from vidgen.diffusion.prediction_types import PREDICTION_TYPES
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_class, read_json
from vidgen.pipelines.published_denoiser import Clock
from vidgen.samplers.diffusers_schedulers import current_levels, discrete_scale, driven_solver, flow_scale

Scale = Callable[[Any, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class SchedulerKind:
    """What a class of diffusers' schedulers is here.

    `sampler`: the solver of ours that does the same steps where the class's settings are those of `same`, or "". With
    others diffusers' own scheduler makes the steps. `fixed`: settings with which the class makes other
    schedules than the kind's. `scale`: the function that gives (alpha, sigma) of each of its steps. `rounding`: how its
    timesteps are rounded (see `Clock`).
    """

    sampler: str
    scale: Scale
    rounding: str
    same: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def find_sampler(self, scheduler: Any) -> str | DrivenScheduler:
        """Return the name of ours for a scheduler, or what runs the scheduler itself."""
        differs = any(scheduler.config.get(name, value) != value for name, value in self.same.items())
        return DrivenScheduler(scheduler=scheduler) if differs or not self.sampler else self.sampler


@dataclass(frozen=True, kw_only=True)
class DrivenScheduler:
    """A solver that is diffusers' own scheduler: see `driven_solver`."""

    scheduler: Any

    def __str__(self) -> str:
        return type(self.scheduler).__name__

    def __call__(self, *inputs: Any, **settings: Any) -> Tensor:
        """Return the clips that its steps make, as one of SAMPLERS does."""
        return driven_solver(copy.deepcopy(self.scheduler))(*inputs, **settings)


# With these a multistep scheduler leaves the levels of a flow.
FLOW_LEVELS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
FLOW = {
    "FlowMatchEulerDiscreteScheduler": SchedulerKind(sampler="euler", scale=flow_scale, rounding="none"),
    "UniPCMultistepScheduler": SchedulerKind(
        sampler="unipc",
        scale=flow_scale,
        rounding="down",
        same={
            "solver_order": 2,
            "solver_type": "bh2",
            "lower_order_final": True,
            "disable_corrector": [],
            "final_sigmas_type": "zero",
        },
        fixed=FLOW_LEVELS | {"predict_x0": True},
    ),
    "FlowMatchHeunDiscreteScheduler": SchedulerKind(sampler="", scale=flow_scale, rounding="none"),
    "DPMSolverMultistepScheduler": SchedulerKind(
        sampler="", scale=flow_scale, rounding="down", fixed=FLOW_LEVELS | {"use_lu_lambdas": False}
    ),
    "DEISMultistepScheduler": SchedulerKind(sampler="", scale=flow_scale, rounding="down", fixed=FLOW_LEVELS),
}
TABLE = {
    "CogVideoXDDIMScheduler": SchedulerKind(sampler="euler", scale=discrete_scale, rounding="near"),
    "CogVideoXDPMScheduler": SchedulerKind(sampler="dpmpp_2m_sde", scale=discrete_scale, rounding="near"),
}
KINDS = {**FLOW, **TABLE}
# Settings that would make another schedule of any class, or another output of its network: only these values are read.
# All others are honored: levels are the scheduler's own, and so are its steps where none of ours are the same.
FIXED = {
    "invert_sigmas": False,
    "stochastic_sampling": False,
    "use_flow_sigmas": True,
    "thresholding": False,
    "variance_type": None,
    "solver_p": None,
}


@dataclass(frozen=True, kw_only=True)
class CallDefaults:
    """What a pipeline's call takes where it is not told. Of `fps` the published call knows nothing, but for LTX."""

    num_frames: int
    height: int
    width: int
    num_inference_steps: int
    guidance_scale: float
    fps: float


@dataclass(frozen=True, kw_only=True)
class PublishedSchedule(CallDefaults):
    """Stands where a pipeline of ours has its SchedulerConfig; `scheduler` is diffusers' own.

    `by_length`: the levels start from even steps of 1 / n, and the scheduler may shift them by the number of tokens.
    """

    scheduler: Any
    kind: SchedulerKind
    noise_path: ProbabilityPath
    prediction_type: str
    clock: Clock
    by_length: bool = False

    @property
    def path(self) -> str:
        """Return the name of the path: "table" or "flow"."""
        return "table" if isinstance(self.noise_path, TablePath) else "flow"

    @property
    def sampler(self) -> str | DrivenScheduler:
        """Return the solver of ours that does the same steps, or the scheduler itself as one."""
        return self.kind.find_sampler(self.scheduler)

    def make_path(self) -> ProbabilityPath:
        """Return the path of training and sampling."""
        return self.noise_path

    @property
    def time_distribution(self) -> SchedulerTimes:
        """The scheduler's own levels, in the place of a TimeDistribution."""
        return SchedulerTimes(schedule=self)


@dataclass(frozen=True, kw_only=True)
class SchedulerTimes:
    """The levels that a published scheduler steps through, for clips of `tokens` tokens in all."""

    schedule: PublishedSchedule
    tokens: int = 0

    def for_size(self, tokens: int, frames: int) -> SchedulerTimes:
        """Return those for clips of `frames` latent frames of `tokens` tokens each."""
        return replace(self, tokens=tokens * frames)

    def steps(self, num_inference_steps: int) -> Float[Tensor, " n_plus_1"]:
        """Return the scheduler's own levels, noisiest first, and the one that is left in the end; float64.

        Raises VidgenError for a number of steps, or a size of clips, that it does not make.
        """
        n = num_inference_steps
        if n < 1:
            raise VidgenError(f"num_inference_steps is {n}; it must be 1 or more")
        s = self.schedule
        scheduler = copy.copy(s.scheduler)  # setting its steps changes it
        try:
            mu = shift_for(scheduler, self.tokens) if s.by_length else None
            even = {"sigmas": np.linspace(1.0, 1.0 / n, n), "mu": mu} if s.by_length else {}
            with np.errstate(invalid="ignore"):  # of too few steps to stretch; see below
                scheduler.set_timesteps(**even) if even else scheduler.set_timesteps(n)
        except ValueError as error:
            raise VidgenError(f"{type(scheduler).__name__}: {str(error).splitlines()[0][:160]}") from None
        except ArithmeticError:  # a shift far too steep, or between two lengths that are one
            raise VidgenError(
                f"{type(scheduler).__name__} makes no schedule of {self.tokens} tokens a clip: its shift, which grows "
                "with them by base_shift, max_shift and the lengths of both, is no number there; take a smaller clip"
            ) from None
        if not torch.isfinite(scheduler.timesteps.float()).all():
            raise VidgenError(f"{type(scheduler).__name__} makes no schedule of num_inference_steps={n}; take more")
        return current_levels(scheduler, s.kind.scale, s.noise_path)

    def to_dict(self) -> dict[str, Any]:
        """Return the scheduler's class and settings as plain data."""
        scheduler = self.schedule.scheduler
        return {"scheduler": type(scheduler).__name__, **plain_settings(scheduler.config)}


def shift_for(scheduler: Any, tokens: int) -> float:
    """Return mu, which grows linearly with the tokens of a clip between two lengths.

    Where the scheduler names none, they are those of the pipeline.
    """
    usual = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
    shortest, longest, low, high = (scheduler.config.get(name, value) for name, value in usual.items())
    return low + (high - low) / (longest - shortest) * (tokens - shortest)


def read_published_schedule(
    folder: Folder, kinds: dict[str, SchedulerKind], defaults: CallDefaults, *, by_length: bool = False
) -> PublishedSchedule:
    """Return the schedule of a pipeline's folder, of one of the classes `kinds`.

    Raises VidgenError for another class, and for settings that are not known or not supported.
    """
    import diffusers

    file = folder / "scheduler" / "scheduler_config.json"
    values = read_json(file)
    name = read_class(values, file)
    if name not in kinds:
        raise VidgenError(f"{file} is of a {name}; of this pipeline are supported: {', '.join(kinds)}")
    scheduler = from_settings(getattr(diffusers, name), values, file)
    c = scheduler.config
    for key, value in (FIXED | kinds[name].fixed).items():
        if key in c and c[key] != value:
            raise VidgenError(f"{file}: {key}={c[key]} is not supported, only {value}")
    prediction = c.get("prediction_type", "flow_prediction")
    if prediction not in PREDICTION_TYPES or (name in FLOW and prediction != "flow_prediction"):
        raise VidgenError(f"{file}: prediction_type={prediction!r} is not supported by this pipeline")
    kind, steps = kinds[name], c.num_train_timesteps
    path: ProbabilityPath = FlowPath()
    clock = Clock(steps=steps, rounding=kind.rounding)
    if name in TABLE:
        # Timestep k is level (k + 1) / n: at level 0 is what is left when all steps are done, clean data.
        path = TablePath(alphas=tuple(torch.as_tensor(scheduler.alphas_cumprod).double().sqrt().tolist()))
        clock = replace(clock, offset=-1)
    return PublishedSchedule(
        **asdict(defaults),
        scheduler=scheduler,
        kind=kind,
        noise_path=path,
        prediction_type=prediction,
        clock=clock,
        by_length=by_length,
    )
