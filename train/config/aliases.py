"""Former words of recipes: keys, values and tasks of earlier versions are read as what they are called now."""

from __future__ import annotations

import warnings
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vidgen.diffusion.prediction_types import FORMER_PREDICTION_TYPES
from vidgen.errors import VidgenError

DENOISING_TASKS = ("diffusion", "lora", "ip_adapter")  # which were one task, `diffusion`
KEYS = {"parametrisation": "prediction_type"}
VALUES = {"prediction_type": FORMER_PREDICTION_TYPES, "weighting": FORMER_PREDICTION_TYPES}
PARTS = {"all": "diffusion", "image_prompt": "ip_adapter"}
# Keys of the one task, with the values that say nothing; which of them a task of today still has; and its `part`.
FORMER_DIFFUSION_KEYS = {"part": "all", "lora_rank": 0, "lora_alpha": 0.0, "match_weight": 0.1}
OWN_KEYS = {"lora": ("lora_rank", "lora_alpha"), "ip_adapter": ("match_weight",)}
FORMER_MAX_STRIDE = 4  # the default, and what 0 means now where frames are picked by number
OWN_PARTS = {task: part for part, task in PARTS.items()}


def read_former_words(recipe: DictConfig, path: Path, *, warn: bool = True) -> DictConfig:
    """Return a whole recipe in today's words: `rename_keys` and `split_diffusion`, of a run's record without a warning.

    `path` is what warnings and errors name. Raises VidgenError for keys that exclude each other.
    """
    recipe = rename_keys(recipe, path, task=recipe.get("task"), warn=warn)
    if not warn:
        recipe = pick_by_number(recipe)
    return split_diffusion(recipe, path, warn=warn)


def pick_by_number(record: DictConfig) -> DictConfig:
    """Return a run's record with what its sources of files did before they had a key `fps`."""
    record = record.copy()
    sources = OmegaConf.select(record, "data.sources") or []
    for source in sources:
        if "fps" not in source:
            source["fps"] = 0.0 if source.get("kind") == "clips" else None
            if source.get("max_stride") == FORMER_MAX_STRIDE:
                source["max_stride"] = 0
    return record


def rename_keys(recipe: DictConfig, path: Path, *, task: str | None, warn: bool = True) -> DictConfig:
    """Return one file's keys, or those of a command, with former keys and values by their names of today.

    A recipe over a base must be renamed before it is laid over it, or the base's former key outlives the recipe's new
    one. `task` is that of the whole (None: not known yet); one without these keys refuses them by the name they have
    here. Raises VidgenError for a key that is there by both names.
    """
    recipe = recipe.copy()
    if task is not None and task not in DENOISING_TASKS:
        return recipe
    for former, name in KEYS.items():
        if former in recipe:
            if name in recipe:
                raise VidgenError(f"{path}: {former} is the former name of {name}: leave {former} out")
            recipe[name] = recipe.pop(former)
            if warn:
                _warn(f"{path}: recipe key {former} is now called {name}")
    for key, names in VALUES.items():
        former = recipe.get(key)
        if isinstance(former, str) and former in names:
            recipe[key] = names[former]
            if warn:
                _warn(f"{path}: {key} {former} is now called {recipe[key]}")
    return recipe


def split_diffusion(recipe: DictConfig, path: Path, *, warn: bool = True) -> DictConfig:
    """Return a whole recipe with the task that `part` and `lora_rank` mean, without the keys that it does not have.

    From `task: diffusion`, and from a run's record (`warn` false), all of them are taken out. From a task of today only
    those are that say nothing: its dataclass refuses the others. Raises VidgenError for keys that exclude each other.
    """
    recipe = recipe.copy()
    written = recipe.get("task")
    if written not in DENOISING_TASKS:
        return recipe
    part = recipe.get("part", OWN_PARTS.get(written, "all"))
    if part not in tuple(PARTS):  # it may be a list, which no dictionary looks up
        raise VidgenError(f"{path}: part {part!r}: choose 'all' or 'image_prompt'")
    if written == "diffusion":
        recipe.task = PARTS[part]
        if part == "all" and recipe.get("lora_rank", 0):
            recipe.task = "lora"
        if recipe.task != written and warn:
            _warn(f"{path}: task diffusion with {'part' if part != 'all' else 'lora_rank'} is now task {recipe.task}")
    if recipe.task == "ip_adapter" and recipe.get("lora_rank", 0):
        raise VidgenError(f"{path}: a LoRA is trained without pictures: set task=lora, or lora_rank=0")
    neutral = {**FORMER_DIFFUSION_KEYS, "part": OWN_PARTS.get(recipe.task, "all")}
    for key in [key for key in neutral if key in recipe and key not in OWN_KEYS.get(recipe.task, ())]:
        says_nothing = recipe[key] == neutral[key]
        if says_nothing or written == "diffusion" or not warn:
            value = recipe.pop(key)
            if warn and not says_nothing:
                warnings.warn(f"{path}: {key}={value} does nothing in task {recipe.task}: leave it out", stacklevel=2)
    return recipe


def _warn(message: str) -> None:
    warnings.warn(message, FutureWarning, stacklevel=2)
