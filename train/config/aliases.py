"""Former words of recipes: keys and tasks of earlier versions are read as what they are called now."""

from __future__ import annotations

import warnings
from pathlib import Path

from omegaconf import DictConfig

from vidgen.diffusion.prediction_types import FORMER_PREDICTION_TYPES
from vidgen.errors import VidgenError

KEYS = {"parametrisation": "prediction_type"}
# Of the one task that `diffusion`, `lora` and `ip_adapter` were, with the values that said nothing.
FORMER_DIFFUSION_KEYS = {"part": "all", "lora_rank": 0, "lora_alpha": 0.0, "match_weight": None}
PARTS = {"all": "diffusion", "image_prompt": "ip_adapter", "lora": "lora"}


def read_former_words(recipe: DictConfig, path: Path, *, warn: bool = True) -> DictConfig:
    """Return `recipe` in today's words: renamed keys, and `task: diffusion` with `part` or `lora_rank` as its own task.

    `path` is what warnings and errors name. Raises VidgenError for parts that exclude each other.
    """
    recipe = recipe.copy()
    for former, name in KEYS.items():
        if former in recipe:
            recipe[name] = recipe.pop(former)
            if warn:
                _warn(f"{path}: recipe key {former} is now called {name}")
    if (name := recipe.get("prediction_type")) in FORMER_PREDICTION_TYPES:
        recipe.prediction_type = FORMER_PREDICTION_TYPES[name]
        if warn:
            _warn(f"{path}: prediction_type {name} is now called {recipe.prediction_type}")
    if recipe.get("task") in PARTS.values():
        _split_diffusion(recipe, path, warn)
    return recipe


def _split_diffusion(recipe: DictConfig, path: Path, warn: bool) -> None:
    """Set the task that the former keys of task `diffusion` mean, and take those that it does not have out."""
    task = recipe.task
    part = recipe.get("part", "all")
    if part not in PARTS:
        raise VidgenError(f"{path}: part {part!r}: choose 'all' or 'image_prompt'")
    if task == "diffusion":
        recipe.task = PARTS[part]
        if part == "all" and recipe.get("lora_rank", 0):
            recipe.task = "lora"
        if recipe.task != task and warn:
            _warn(f"{path}: task diffusion with {'part' if part != 'all' else 'lora_rank'} is now task {recipe.task}")
    if recipe.task == "ip_adapter" and recipe.get("lora_rank", 0):
        raise VidgenError(f"{path}: a LoRA is trained without pictures: set task=lora, or leave lora_rank out")
    own = {"lora": ("lora_rank", "lora_alpha"), "ip_adapter": ("match_weight",)}.get(recipe.task, ())
    for key in FORMER_DIFFUSION_KEYS:
        if key not in own and key in recipe:
            recipe.pop(key)


def _warn(message: str) -> None:
    warnings.warn(message, FutureWarning, stacklevel=2)
