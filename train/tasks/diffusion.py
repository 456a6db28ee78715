"""Task `diffusion`: a VideoDiT, and its byte-level text encoder, on cached latents of captioned clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.train.config import DiffusionRecipe
from vidgen.train.config.alignment import AlignmentConfig
from vidgen.train.losses.alignment import Alignment
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.task import Metrics


class DiffusionTask(DenoisingTask):
    """The denoising loss trains the denoiser, a byte-level text encoder, and an image prompt encoder where clips have
    pictures. Published text encoders stay as they are. With `alignment` its tokens are drawn to a frozen encoder's."""

    def __init__(self, recipe: DiffusionRecipe) -> None:
        super().__init__(recipe)
        trained: dict[str, nn.Module] = {"transformer": self.transformer}
        if recipe.train_text and isinstance(self.text_encoder, ByteTextEncoder):
            trained["text_encoder"] = self.text_encoder
        if recipe.reference:
            trained["image_prompt"] = self.image_prompt
        self.alignment: Alignment | None = None
        if recipe.alignment:
            self.alignment = self.make_alignment()
            trained["alignment"] = self.alignment
        self.model = nn.ModuleDict(trained).requires_grad_(True)
        self.open_clips()

    def make_alignment(self) -> Alignment:
        """Return the alignment of the recipe. VidgenError beside what gives a pass other tokens than its clip's."""
        recipe = self.recipe
        config = config_from_dict(AlignmentConfig, recipe.alignment, "recipe key `alignment`")
        if recipe.teacher_forcing or recipe.tasks or not isinstance(self.transformer, VideoDiT):
            raise VidgenError("alignment is for a VideoDiT without teacher_forcing and tasks; leave these out")
        torch.manual_seed(recipe.seed)
        return Alignment(config, self.transformer, self.tokenizer, recipe.device)

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the denoising loss of a batch, and beside it that of the alignment, if there is one."""
        if self.alignment is None:
            return super().loss(batch, generator)
        with self.alignment.capture(self.transformer) as tokens:
            loss, metrics = super().loss(batch, generator)
        latents = batch["latents"].to(self.recipe.device)
        grid = tuple(n // p for n, p in zip(latents.shape[2:], self.transformer.config.patch, strict=True))
        extra, parts = self.alignment.loss(tokens[0], latents, grid)
        parts = {f"alignment_{name}": value.item() for name, value in ({"loss": extra} | parts).items()}
        return loss + self.alignment.config.weight * extra, metrics | parts

    def export(self, folder: Path) -> None:
        """Write the whole pipeline."""
        self.save_pipeline(folder)
