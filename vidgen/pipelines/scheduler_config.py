"""What a checkpoint says of its schedule."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice, Fps, Frames, GuidanceScale, InferenceSteps, Side, check_fields
from vidgen.checkpoints.config_fields import renamed_field
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.deprecation import renamed_fields
from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import PATHS, ProbabilityPath
from vidgen.diffusion.prediction_types import FORMER_PREDICTION_TYPES, PREDICTION_TYPES, read_prediction_type
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_json
from vidgen.samplers.solvers.registry import FEW_STEP_SAMPLERS, SAMPLERS

TIME_FIELDS = frozenset(f.name for f in fields(TimeDistribution))


@renamed_fields(parametrisation="prediction_type")
@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """How a denoiser was trained and is sampled: what it predicts, its time distribution, and the call's defaults.

    `distilled_steps` are the numbers of steps that a student was trained for, () where any will do; a student of a
    teacher that was guided at `distilled_guidance` needs none.

    A causal model sees `window_frames` of a longer clip at once; None: `num_frames`.

    The fields of the time distribution, which stood here themselves, can still be read here, and given to the
    constructor (with a warning). Raises VidgenError for a prediction type that is unknown.
    """

    prediction_type: Annotated[str, Choice(PREDICTION_TYPES)] = renamed_field(
        "parametrisation", former_values=FORMER_PREDICTION_TYPES, default="flow_prediction"
    )
    time_distribution: TimeDistribution = field(default_factory=TimeDistribution)
    sampler: Annotated[str, Choice((*SAMPLERS, *FEW_STEP_SAMPLERS))] = "euler"
    num_inference_steps: InferenceSteps = 30
    guidance_scale: GuidanceScale = 4.0
    num_frames: Frames = 17
    height: Side = 64
    width: Side = 64
    fps: Fps = 8.0
    distilled_steps: tuple[InferenceSteps, ...] = ()
    distilled_guidance: GuidanceScale = 1.0
    window_frames: Frames | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prediction_type", read_prediction_type(self.prediction_type))
        check_fields(self)

    def __getattr__(self, name: str) -> Any:
        """Return a field of the time distribution."""
        if name not in TIME_FIELDS:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.time_distribution, name)

    def make_path(self) -> ProbabilityPath:
        """Return the path of training and sampling."""
        return PATHS[self.time_distribution.path]()

    def time(self) -> TimeDistribution:
        """Return the time distribution. Use `time_distribution`."""
        warnings.warn("SchedulerConfig.time() is now called time_distribution", FutureWarning, stacklevel=2)
        return self.time_distribution


def nest_time(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the constructor's arguments with those of the time distribution put into it."""
    flat = {name: value for name, value in settings.items() if name in TIME_FIELDS}
    rest = {name: value for name, value in settings.items() if name not in TIME_FIELDS}
    return rest | {"time_distribution": replace(rest.get("time_distribution", TimeDistribution()), **flat)}


def read_scheduler(folder: Path) -> SchedulerConfig:
    """Return the schedule of a pipeline's folder, whose JSON nests the time distribution, or is flat as it was before.

    Raises VidgenError for values that are not those of a SchedulerConfig.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    values = read_json(file)
    nested = values.pop("time_distribution", {})
    if not isinstance(nested, dict):
        raise VidgenError(f"{file}: time_distribution is {nested!r}; it must be an object of {sorted(TIME_FIELDS)}")
    flat = {name: values.pop(name) for name in TIME_FIELDS & values.keys()}
    time = config_from_dict(TimeDistribution, {**nested, **flat}, str(file))
    return config_from_dict(SchedulerConfig, {**values, "time_distribution": time}, str(file))


_initialize = SchedulerConfig.__init__


@wraps(_initialize)
def _initialize_flat(self: SchedulerConfig, **settings: Any) -> None:
    if "parametrisation" in settings:
        warnings.warn("parametrisation=... is now called prediction_type=...", FutureWarning, stacklevel=2)
        settings["prediction_type"] = settings.pop("parametrisation")
    if flat := TIME_FIELDS & settings.keys():
        named = ", ".join(f"{name}=..." for name in sorted(flat))
        line = f"SchedulerConfig({named}) is now SchedulerConfig(time_distribution=TimeDistribution({named}))"
        warnings.warn(line, FutureWarning, stacklevel=2)
        settings = nest_time(settings)
    _initialize(self, **settings)


SchedulerConfig.__init__ = _initialize_flat
