"""Task `diffusion`: a VideoDiT, and its byte-level text encoder, on cached latents of captioned clips."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.train.config import DiffusionRecipe
from vidgen.train.tasks.denoising import DenoisingTask


class DiffusionTask(DenoisingTask):
    """The denoising loss trains the denoiser, a byte-level text encoder, and an image prompt encoder where clips have
    pictures. Published text encoders stay as they are."""

    def __init__(self, recipe: DiffusionRecipe) -> None:
        super().__init__(recipe)
        trained: dict[str, nn.Module] = {"transformer": self.transformer}
        if recipe.train_text and isinstance(self.text_encoder, ByteTextEncoder):
            trained["text_encoder"] = self.text_encoder
        if recipe.reference:
            trained["image_prompt"] = self.image_prompt
        self.model = nn.ModuleDict(trained).requires_grad_(True)
        self.open_clips()

    def export(self, folder: Path) -> None:
        """Write the whole pipeline."""
        self.save_pipeline(folder)
