"""What a checkpoint says of its schedule."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vidgen.checkpoints.config_fields import renamed_field
from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import PATHS, PREDICTION_TYPES, ProbabilityPath
from vidgen.errors import VidgenError


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """How a denoiser was trained and is sampled: path, prediction_type, time distribution, and the call's defaults.

    The time distribution's fields stand here under their own names.
    """

    path: str = "flow"
    prediction_type: str = renamed_field("parametrisation", default="flow")
    density: str = "uniform"
    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0
    mode_scale: float = 1.29
    base_tokens: int = 256
    shift_per_token: float = 0.0
    frames_power: float = 0.0
    highest: float = 1.0
    sampler: str = "euler"
    num_inference_steps: int = 30
    guidance_scale: float = 4.0
    num_frames: int = 17
    height: int = 64
    width: int = 64
    fps: float = 8.0

    def make_path(self) -> ProbabilityPath:
        """The path of this name. Raises VidgenError if it, or the prediction_type, is unknown."""
        if self.path not in PATHS or self.prediction_type not in PREDICTION_TYPES:
            raise VidgenError(
                f"path {self.path!r} with prediction_type {self.prediction_type!r} is unknown; known are "
                f"{', '.join(PATHS)} with {', '.join(PREDICTION_TYPES)}"
            )
        return PATHS[self.path]()

    def time(self) -> TimeDistribution:
        return TimeDistribution(**{f.name: getattr(self, f.name) for f in fields(TimeDistribution)})
