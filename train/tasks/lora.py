"""Task `lora`: a LoRA on the denoiser of a trained pipeline."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from vidgen.lora.training import TrainedLoRA
from vidgen.train.config import LoRARecipe
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.task import export_dtype


class LoRATask(DenoisingTask):
    """The denoising loss trains factors on the denoiser of `init_from`, drawn from the recipe's seed; all else stays.

    Raises VidgenError where they would learn something else than the model predicts, which their file does not say, and
    for a rank that its layers do not have.
    """

    def __init__(self, recipe: LoRARecipe) -> None:
        super().__init__(recipe)
        self.networks.check_same_prediction(recipe, self.time.path, "a LoRA")
        torch.manual_seed(recipe.seed)
        self.lora = TrainedLoRA(self.transformer, recipe.lora_rank, recipe.lora_alpha or float(recipe.lora_rank))
        self.model = nn.ModuleDict({"lora": self.lora}).requires_grad_(True)
        self.open_clips()

    def export(self, folder: Path) -> None:
        """Write the LoRA's file."""
        self.lora.save(folder, dtype=export_dtype(self.recipe.autocast))
