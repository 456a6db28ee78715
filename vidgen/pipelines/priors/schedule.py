"""What a prior's checkpoint says of how it is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from vidgen.bounds import Count, Fps, Frames, GuidanceScale, InferenceSteps, Range, Side, check_fields
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.files.bounded_files import read_json

SCHEDULE_FILE = Path("scheduler") / "scheduler_config.json"


@dataclass(frozen=True, kw_only=True)
class PriorSchedule:
    """The defaults of a call: the size of clips, how tokens are drawn (see `TokenSampling`), guidance, and the steps of
    a prior that predicts masked tokens: of a clip, or of each latent frame."""

    num_frames: Frames = 17
    height: Side = 64
    width: Side = 64
    fps: Fps = 8.0
    num_inference_steps: InferenceSteps = 16
    guidance_scale: GuidanceScale = 1.0
    temperature: Annotated[float, Range(0.0, 1000.0)] = 1.0
    top_k: Count | None = None
    top_p: Annotated[float, Range(0.0, 1.0, above=True)] | None = None

    def __post_init__(self) -> None:
        check_fields(self)


def read_prior_schedule(folder: Path) -> PriorSchedule:
    """Return the schedule of a pipeline's folder. Raises VidgenError for values that are not those of one."""
    file = folder / SCHEDULE_FILE
    return config_from_dict(PriorSchedule, read_json(file), str(file))
