"""What a prior's checkpoint says of how it is sampled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from vidgen.bounds import Choice, Count, Fps, Frames, GuidanceScale, InferenceSteps, Range, Side, check_fields
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_json
from vidgen.samplers.solvers import SAMPLERS

HEAD_SAMPLERS = tuple(name for name, solver in SAMPLERS.items() if not solver.stochastic)
SCHEDULE_FILE = Path("scheduler") / "scheduler_config.json"


@dataclass(frozen=True, kw_only=True)
class PriorSchedule:
    """The defaults of a call: the size of clips, how tokens are drawn (see `TokenSampling`), guidance, and the steps of
    a prior that predicts masked tokens: of a clip, or of each latent frame.

    Continuous tokens are drawn by `num_diffusion_steps` of a `sampler` over the head (see `HeadSampling`), whose levels
    are those of the `time_distribution` that it was trained by.
    """

    num_frames: Frames = 17
    height: Side = 64
    width: Side = 64
    fps: Fps = 8.0
    num_inference_steps: InferenceSteps = 16
    guidance_scale: GuidanceScale = 1.0
    temperature: Annotated[float, Range(0.0, 1000.0)] = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Range(0.0, 1.0, above=True)] | None = None
    min_p: Annotated[float, Range(0.0, 1.0)] | None = None
    sampler: Annotated[str, Choice(HEAD_SAMPLERS)] = "euler"
    num_diffusion_steps: InferenceSteps = 25
    time_distribution: TimeDistribution = field(default_factory=TimeDistribution)

    def __post_init__(self) -> None:
        check_fields(self)


def read_prior_schedule(folder: Path) -> PriorSchedule:
    """Return the schedule of a pipeline's folder. Raises VidgenError for values that are not those of one."""
    file = folder / SCHEDULE_FILE
    values = read_json(file)
    nested = values.get("time_distribution", {})
    if not isinstance(nested, dict):
        raise VidgenError(f"{file}: time_distribution is {nested!r}; it must be an object")
    time = config_from_dict(TimeDistribution, nested, str(file))
    return config_from_dict(PriorSchedule, {**values, "time_distribution": time}, str(file))
