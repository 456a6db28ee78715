"""A LoRA in the place of a denoiser as what task `diffusion` trains."""

from __future__ import annotations

import torch
from torch import nn

from vidgen.checkpoints.hub import find_model
from vidgen.errors import VidgenError
from vidgen.lora.training import TrainedLoRA
from vidgen.pipelines.scheduler_config import read_scheduler
from vidgen.train.config import DiffusionRecipe


def check_same_prediction(recipe: DiffusionRecipe, path: str, what: str) -> None:
    """Raises VidgenError where `what` would learn something else than the model of `init_from` predicts on its path."""
    scheduler = read_scheduler(find_model(recipe.init_from))
    for key, theirs, own in (
        ("prediction_type", scheduler.prediction_type, recipe.prediction_type),
        ("path", scheduler.path, path),
    ):
        if theirs != own:
            raise VidgenError(f"init_from={recipe.init_from}: its {key} is {theirs}, not {own}; {what} needs the same")


def make_lora(transformer: nn.Module, recipe: DiffusionRecipe, path: str) -> TrainedLoRA:
    """Factors on the transformer of `init_from`, drawn from the recipe's seed, to be trained on `path`.

    Raises VidgenError where they would learn something else than the model predicts, which their file does not say, and
    for a rank that its layers do not have.
    """
    check_same_prediction(recipe, path, "a LoRA")
    torch.manual_seed(recipe.seed)
    return TrainedLoRA(transformer, recipe.lora_rank, recipe.lora_alpha or float(recipe.lora_rank))
