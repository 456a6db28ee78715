"""Task `ip_adapter`: an image prompt encoder for a trained pipeline, alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidgen.train.config import IPAdapterRecipe
from vidgen.train.losses.contrastive import ImageTextContrastiveLoss
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.task import Metrics


class IPAdapterTask(DenoisingTask):
    """The encoder learns what the same denoiser predicts from the whole caption, and to tell pictures apart.

    In the mean over clips the denoiser's prediction is the denoising loss's best answer too, without the variance of
    the noise. Beside it a contrastive loss teaches what differs in a few pixels only, such as shapes.
    """

    def __init__(self, recipe: IPAdapterRecipe) -> None:
        super().__init__(recipe)
        self.networks.check_same_prediction(recipe, self.time.path, "an image prompt encoder")
        torch.manual_seed(recipe.seed)
        matching = ImageTextContrastiveLoss(self.text_encoder.width).to(recipe.device)  # for training: not exported
        trained = {"image_prompt": self.image_prompt, "matching": matching}
        self.model = nn.ModuleDict(trained).requires_grad_(True)
        self.open_clips()

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the distance to the prediction from whole captions, and the weighted contrastive loss."""
        draw = self.draw(batch["latents"], generator, batch.get("tasks"))
        condition = self.condition(batch, draw.dropped, generator)
        with torch.no_grad():
            teacher = self.encode(batch["captions"])
            shows = self.encode(batch["shows"])
        distance = self.losses(batch, condition.text, draw, teacher).mean()
        matching = self.model["matching"](condition.tokens, shows, batch["shows"])
        loss = distance + self.recipe.match_weight * matching
        return loss, {"distance": distance.item(), "matching": matching.item()}

    def export(self, folder: Path) -> None:
        """Write the whole pipeline, with the encoder as its part."""
        self.save_pipeline(folder)
