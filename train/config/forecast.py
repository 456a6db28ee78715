"""What the task on forecasts of embeddings is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Count, Range
from vidgen.errors import VidgenError
from vidgen.train.config.run import LoopConfig


@dataclass
class ForecastRecipe(LoopConfig):
    """Task `forecast`: an `EmbeddingForecaster` over the sequences of a bank (`vidgen extract --pool frame`): those of
    `layer`, a vector a latent frame of each clip.

    `model` overrides fields of `TokenPriorConfig`; its `order` is "causal" or "masked". Rows that the bank calls train
    are trained on, and the others validate; where it names no split these are every `hold_out`-th row. Validation shows
    the first `seen` embeddings, and takes the mean of `draws` forecasts of the others.
    """

    bank: str = ""
    layer: str = "tokenizer.latents"
    hold_out: Annotated[int, Range(2, 10**6)] = 5
    seen: Count = 1
    draws: Count = 8
    head_draws: Count = 4
    model: dict[str, Any] = field(default_factory=dict)

    def check(self, path: Path) -> None:
        """Raise VidgenError without a bank, and for a model that knows something else than embeddings."""
        super().check(path)
        if self.model.get("order", "causal") not in ("causal", "masked"):
            raise VidgenError(f"{path}: model.order={self.model['order']}: embeddings are of order causal or masked")
        own = {"codebook_sizes", "channels", "text_width", "classes", "actions", "tokenizer_hash"} & self.model.keys()
        if own:
            raise VidgenError(
                f"{path}: model.{min(own)} is not for this task: the bank says what there is; leave it out"
            )
