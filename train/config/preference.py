"""What the task on rewarded clips is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from vidgen.bounds import Choice, Length, Positive, Range
from vidgen.data.shapes import Sighting
from vidgen.errors import VidgenError
from vidgen.train.config.diffusion import DiffusionRecipe

CRITERIA = Sighting._fields  # colour, shape, motion


@dataclass
class PreferenceRecipe(DiffusionRecipe):
    """Task `preference`: post-training of the denoiser of `init_from` on its own clips, by a reward.

    The model makes `clips_per_prompt` clips of each prompt of the synthetic world, `cached_clips` in all, once, at its
    own size and length. A batch is of `batch_size` prompts, each with all its clips. The reward of a clip is the share
    of the criteria `rewarded` that the world's checker finds; the others are never rewarded, and validation says of
    both how they do: a reward that is hacked shows in those. `method`:

    - "weighted": the denoising loss, clips weighted by exp(reward / `temperature`) within a prompt;
    - "preference": of each prompt the best clip is preferred to the worst, against the model as it was (DPO), `beta`
      saying how much a change of errors means.
    """

    method: Annotated[str, Choice(("weighted", "preference"))] = "weighted"
    rewarded: Annotated[list[Annotated[str, Choice(CRITERIA)]], Length(1, 3)] = field(
        default_factory=lambda: ["shape", "motion"]
    )
    clips_per_prompt: Annotated[int, Range(2, 1024)] = 4
    temperature: Positive = 0.2
    beta: Positive = 500.0

    def check(self, path: Path) -> None:
        """Raise VidgenError for a model to start from, prompts or groups that are not there."""
        super().check(path)
        if not self.init_from:
            raise VidgenError(f"{path}: task preference needs a trained model: set init_from, e.g. to default")
        if any(source.kind != "shapes" for source in self.data.sources):
            raise VidgenError(f"{path}: only the synthetic world's prompts can be checked: leave other sources out")
        if self.cached_clips < self.clips_per_prompt:
            raise VidgenError(
                f"{path}: cached_clips={self.cached_clips} are no group of {self.clips_per_prompt} clips; give more"
            )
        if self.reference or self.tasks or self.per_frame_noise or self.given_frames or self.teacher_forcing:
            raise VidgenError(
                f"{path}: post-training has no pictures, tasks, given frames or levels a frame: leave out reference, "
                "tasks, given_frames, per_frame_noise and teacher_forcing"
            )
        if self.method == "preference" and self.drop_text:
            raise VidgenError(f"{path}: pairs are compared under their prompt: set drop_text=0 for method=preference")
