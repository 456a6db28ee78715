"""What the motion between key frames is trained on, beside the frames themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidgen.errors import VidgenError


@dataclass
class KeyframeLossConfig:
    """Weights: `field`, mean absolute error of decoded vectors in blocks; `warped`, that of key frames moved by them
    before anything is added, so that motion carries what it can."""

    field: float = 1.0
    warped: float = 0.5


def check_keyframes(recipe: Any, path: Path) -> None:
    """Raises VidgenError for values that no training of key frames and motion can use."""
    if recipe.part not in ("motion", "all"):
        raise VidgenError(f"{path}: part {recipe.part!r}: choose 'motion' or 'all'")
    if recipe.part == "motion" and not (recipe.key or recipe.init_from):
        raise VidgenError(f"{path}: part=motion needs a trained tokenizer for key frames: set key=NAME, or part=all")
    if recipe.key and "key" in recipe.model and not recipe.init_from:
        raise VidgenError(f"{path}: key={recipe.key} and model.key are two tokenizers for key frames; keep one")
    if recipe.data.num_frames < 2:
        raise VidgenError(f"{path}: data.num_frames={recipe.data.num_frames}: motion needs 2 frames at least")
