"""What task `keyframes` is trained on: losses of the motion between key frames, and its recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice, Weight
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig
from vidgen.train.config.tokenizer import TokenizerLossConfig


@dataclass
class KeyframeLossConfig:
    """Weights: `field`, mean absolute error of decoded vectors in blocks; `warped`, that of key frames moved by them
    before anything is added, so that motion carries what it can."""

    field: Weight = 1.0
    warped: Weight = 0.5


@dataclass
class KeyframeRecipe(LoopConfig):
    """Task `keyframes`: key frames by the tokenizer `key` (empty: a new one, `model.key`), the motion between learned.

    `part` "motion" keeps the tokenizer of key frames as it is, "all" trains it too. `model` sets fields of
    KeyframeConfig.
    """

    key: str = "default"
    part: Annotated[str, Choice(("motion", "all"))] = "motion"
    model: dict[str, Any] = field(default_factory=dict)
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    motion_loss: KeyframeLossConfig = field(default_factory=KeyframeLossConfig)

    def check(self, path: Path) -> None:
        """Raise VidgenError for values that no training of key frames and motion can use."""
        super().check(path)
        if self.part == "motion" and not (self.key or self.init_from):
            raise VidgenError(
                f"{path}: part=motion needs a trained tokenizer for key frames: set key=NAME, or part=all"
            )
        if self.key and "key" in self.model and not self.init_from:
            raise VidgenError(f"{path}: key={self.key} and model.key are two tokenizers for key frames; keep one")
        if self.data.num_frames < 2:
            raise VidgenError(f"{path}: data.num_frames={self.data.num_frames}: motion needs 2 frames at least")
