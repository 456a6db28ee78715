"""What the task on a generator of clips and its discriminators is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidgen.bounds import Weight
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig
from vidgen.train.config.tokenizer import AdversarialConfig


def from_the_start() -> AdversarialConfig:
    """Return discriminators that play from the first step: there is no reconstruction to wait for."""
    return AdversarialConfig(weight=1.0, start_step=0, ramp=0, adaptive=False)


@dataclass
class GANRecipe(LoopConfig):
    """Task `gan`: a `SplitGenerator` against the discriminators `adversarial`, as Vondrick et al. 2016 (VGAN).

    `model` overrides fields of `SplitGeneratorConfig`; the size of clips is the data's. `text_model` is the shape of a
    byte-level text encoder, trained with the generator; where it is empty there is no text. Discriminators of prompts
    judge clips beside their caption, and real clips beside another's as fakes (Li et al. 2018; Reed et al. 2016,
    algorithm 1). `mask_sparsity` weighs the mean of the foreground's mask (VGAN: 0.1).
    """

    model: dict[str, Any] = field(default_factory=dict)
    text_model: dict[str, Any] = field(default_factory=dict)
    adversarial: AdversarialConfig = field(default_factory=from_the_start)
    mask_sparsity: Weight = 0.1

    def check(self, path: Path) -> None:
        """Raise VidgenError for values that no training of a generator can use."""
        super().check(path)
        if own := {"num_frames", "height", "width", "fps", "text_width"} & self.model.keys():
            raise VidgenError(f"{path}: model.{min(own)} is not for recipes: clips are of the data's size; set that")
        config = self.adversarial
        if config.weight <= 0 or config.start_step != 0 or config.adaptive or config.ramp:
            raise VidgenError(
                f"{path}: a generator learns from its discriminators alone: adversarial.weight above 0, with "
                "start_step=0, ramp=0 and adaptive=false"
            )
        if len(self.data.lengths()) > 1:
            raise VidgenError(f"{path}: a generator makes clips of one length; data has {self.data.lengths()}")
        config.check(path, min(self.data.size))
