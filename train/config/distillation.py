"""What the task on few-step students is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from vidgen.bounds import Choice, Count, Frames, InferenceSteps, Weight
from vidgen.errors import VidgenError
from vidgen.train.config.diffusion import DiffusionRecipe
from vidgen.train.config.run import Decay, OptimizerConfig

METHODS = (
    "guidance",
    "progressive",
    "consistency",
    "continuous_consistency",
    "reflow",
    "distribution_matching",
)


@dataclass
class DistillationRecipe(DiffusionRecipe):
    """Task `distill`: a student of few steps, which begins as a copy of its teacher, the denoiser of `init_from`.

    It may begin elsewhere, as the denoiser of `student_from`, and may be causal though its teacher is not
    (`model.causal_chunks`). A causal one learns after the clean chunks of a clip, but by distribution matching after
    its own, from its own cache (self-forcing). The teacher is guided at `guidance_scale` (0: its own), and the student
    needs no guidance. `method`:

    - "guidance": one pass says what two did, at any number of steps;
    - "progressive": the student's step is two of the teacher's, which makes `student_steps` of twice as many;
    - "consistency": at `teacher_steps` + 1 levels the student says the same along the teacher's steps;
      "continuous_consistency" at any level, by a derivative;
    - "reflow": the student learns the straight lines between noise and what the teacher makes of it in `teacher_steps`;
    - "distribution_matching": the student's own clips, made in up to `student_steps` from noise, are moved to where the
      teacher finds them more probable than a critic of them does. It makes `critic_updates` steps for each of the
      student's, by the optimizer `critic`.

    With `adversarial` above 0 a head on the critic's middle block learns to tell the student's clips from the data's,
    noised alike: its hinge loss, times `adversarial`, is added to the critic's loss and to the student's (DMD2).

    Of stories (`scenes` of a source) a causal student by distribution matching makes all scenes but the first itself,
    and the last one is matched, as a clip of its own. It sees `window_frames` of what it has made, and its first frame
    (None: all), as it will when it streams.

    `average_decay` is of the averaged student that consistency compares with. See vidgen/samplers/few_step.
    """

    student_from: str = ""
    method: Annotated[str, Choice(METHODS)] = "consistency"
    student_steps: InferenceSteps = 4
    teacher_steps: InferenceSteps = 32
    guidance_scale: Weight = 0.0
    average_decay: Decay = 0.95
    critic: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(ema_decay=0.0))
    critic_updates: Count = 5
    adversarial: Weight = 0.0
    window_frames: Frames | None = None

    def check(self, path: Path) -> None:
        """Raise VidgenError for a student without a teacher, and for one that would learn more than a teacher says."""
        super().check(path)
        if not self.init_from:
            raise VidgenError(f"{path}: task distill needs a teacher: set init_from, e.g. to default")
        if self.reference:
            raise VidgenError(f"{path}: a student is trained without pictures: set reference=0")
        if self.adversarial and self.method != "distribution_matching":
            raise VidgenError(f"{path}: adversarial={self.adversarial} is for method=distribution_matching")
        if self.data.scenes() > 1 and (self.method != "distribution_matching" or self.adversarial):
            raise VidgenError(
                f"{path}: clips of {self.data.scenes()} scenes are for method=distribution_matching without adversarial"
            )
        if self.tasks:
            raise VidgenError(f"{path}: a student has no generation tasks: leave tasks out, and take a teacher without")
