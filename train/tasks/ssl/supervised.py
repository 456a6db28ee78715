"""Labels of the synthetic world, told from the mean token: what learning without labels is held against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from vidgen.data.shapes import WORDS
from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.train.config.self_supervised import SSLRecipe, SupervisedTermConfig
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.ssl.term import ClipBatch, Term


class SupervisedTerm(Term):
    """The mean cross-entropy of words of the first object, each told by a linear map of the mean token.

    Raises VidgenError for sources without labels.
    """

    def __init__(self, config: SupervisedTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        if not recipe.data.is_only("shapes"):
            raise VidgenError("a supervised term needs labels: give sources of kind=shapes alone")
        self.words = {name: list(WORDS[name]) for name in config.labels}
        self.heads = nn.ModuleDict(
            {name: nn.Linear(encoder.config.width, len(words)) for name, words in self.words.items()}
        )

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch. Parts: the accuracy of each label."""
        features = encoder(batch.video).mean(1)
        losses, parts = [], {}
        for name, words in self.words.items():
            truth = torch.tensor(
                [words.index(getattr(x.objects[0], name)) for x in batch.labels], device=features.device
            )
            logits = self.heads[name](features).float()
            losses.append(F.cross_entropy(logits, truth))
            parts[name] = (logits.argmax(1) == truth).float().mean()
        return torch.stack(losses).mean(), parts
