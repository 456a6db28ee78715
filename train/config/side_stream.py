"""What the task on clips with a side stream is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vidgen.bounds import Positive
from vidgen.errors import VidgenError
from vidgen.samplers.conditioning.side_modes import SIDE_MODES
from vidgen.train.config.diffusion import DiffusionRecipe


@dataclass
class SideStreamRecipe(DiffusionRecipe):
    """Task `side_stream`: a VideoDiT that denoises clips and their actions together, on sources of kind walks.

    `side` are shares of modes (vidgen.samplers.conditioning.side_modes): each clip of a batch draws one, a context of
    first frames, and a noise level of its own for each stream. With `init_from` a trained denoiser gets a side stream,
    and makes clips without one as before to begin with.
    """

    side: dict[str, Positive] = field(
        default_factory=lambda: {"policy": 1.0, "forward": 1.0, "inverse": 1.0, "video": 1.0, "joint": 1.0}
    )

    def check(self, path: Path) -> None:
        """Raise VidgenError for modes that are unknown, clips without actions, and conditions that are said twice."""
        super().check(path)
        if unknown := [name for name in self.side if name not in SIDE_MODES]:
            raise VidgenError(f"{path}: side.{unknown[0]} is unknown; choose of {', '.join(SIDE_MODES)}")
        if not self.side:
            raise VidgenError(f"{path}: side has no mode; give shares of {', '.join(SIDE_MODES)}")
        if not self.data.is_only("walks"):
            raise VidgenError(f"{path}: task side_stream needs clips with actions: give sources of kind=walks alone")
        others = ("tasks", "given_frames", "per_frame_noise", "teacher_forcing", "reference", "gradient_checkpointing")
        if double := [name for name in others if bool(vars(self)[name])]:
            raise VidgenError(f"{path}: task side_stream says by `side` what is known; leave {double[0]} out")
