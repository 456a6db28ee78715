"""What a checkpoint says of its schedule."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vidgen.diffusion.noise import TimeDistribution
from vidgen.diffusion.paths import PARAMETRISATIONS, PATHS, Path
from vidgen.errors import VidgenError


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """How a denoiser was trained and is sampled: path, parametrisation, time distribution, and the call's defaults.

    The time distribution's fields stand here under their own names.
    """

    path: str = "flow"
    parametrisation: str = "flow"
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

    def make_path(self) -> Path:
        """The path of this name. Raises VidgenError if it, or the parametrisation, is unknown."""
        if self.path not in PATHS or self.parametrisation not in PARAMETRISATIONS:
            raise VidgenError(
                f"path {self.path!r} with parametrisation {self.parametrisation!r} is unknown; known are "
                f"{', '.join(PATHS)} with {', '.join(PARAMETRISATIONS)}"
            )
        return PATHS[self.path]()

    def time(self) -> TimeDistribution:
        return TimeDistribution(**{f.name: getattr(self, f.name) for f in fields(TimeDistribution)})
