"""Task `textual_inversion`: a few tokens for what clips show or how they move; the whole model stays as it is."""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.models.ip_adapter import beside_text
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.learned_tokens import LearnedTokens, LearnedTokensConfig
from vidgen.train.config.diffusion import TextualInversionRecipe
from vidgen.train.tasks.denoising import DenoisingTask
from vidgen.train.tasks.task import Metrics, export_dtype


class TextualInversionTask(DenoisingTask):
    """The denoising loss of the clips trains the tokens, which stand beside every caption; they begin as the mean token
    of the first caption, with a little noise between them.

    Raises VidgenError where they would learn something else than the model predicts.
    """

    def __init__(self, recipe: TextualInversionRecipe) -> None:
        super().__init__(recipe)
        self.networks.check_same_prediction(recipe, self.time.path, "tokens")
        torch.manual_seed(recipe.seed)
        sizes = {"text_width": self.text_encoder.width, "tokens": recipe.tokens}
        self.learned = LearnedTokens(LearnedTokensConfig(**sizes)).to(recipe.device)
        self.model = nn.ModuleDict({"learned": self.learned}).requires_grad_(True)
        self.shown = True
        self.open_clips()
        self.begin()

    @torch.no_grad()
    def begin(self) -> None:
        """Set the tokens to the mean of the first clip's caption, a tenth of its spread apart."""
        caption = self.recipe.caption or self.dataset[(0, 0)].caption
        text = self.text_encoder([caption])
        words = text.tokens[0][text.mask[0]]
        self.learned.tokens.copy_(words.mean(0) + 0.1 * words.std() * self.learned.tokens)

    def encode(
        self,
        captions: list[str],
        tokens: Float[Tensor, "b n d"] | None = None,
        with_picture: Bool[Tensor, " b"] | None = None,
    ) -> TextEncoding:
        """Return the encoded captions, or the recipe's own in their place, with the tokens beside them."""
        captions = [self.recipe.caption or caption for caption in captions]
        with torch.no_grad():
            text = super().encode(captions, tokens, with_picture)
        return beside_text(text, self.learned().expand(len(captions), -1, -1)) if self.shown else text

    def validate(self) -> Metrics:
        """Return the loss of held-out clips with the tokens, and without them."""
        with_tokens = super().validate()
        self.shown = False
        without = super().validate()["loss"]
        self.shown = True
        return {**with_tokens, "loss_without_tokens": without}

    def export(self, folder: Path) -> None:
        """Write the tokens."""
        self.learned.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
