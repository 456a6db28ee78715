"""Pretext tasks: what was done to a clip is told from its mean token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.train.config.self_supervised import PretextTermConfig, SSLRecipe
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.ssl.term import ClipBatch, Term
from vidgen.train.views.pretexts import PRETEXTS, draw_pretext


class PretextTerm(Term):
    """The mean cross-entropy of a pretext's questions, each answered by a linear map of the mean token.

    Raises VidgenError for clips that are too short for it, or whose views no patches fill.
    """

    def __init__(self, config: PretextTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.pretext = config.pretext
        frames, patch = recipe.data.num_frames, encoder.config.patch[0]
        clip = torch.zeros(1, 3, frames, *recipe.data.size)
        view, _ = draw_pretext(self.pretext, clip, torch.Generator().manual_seed(0))
        if view.shape[2] % patch:
            raise VidgenError(
                f"pretext {self.pretext} has views of {view.shape[2]} frames, no multiple of patches of {patch}"
            )
        self.answers = PRETEXTS[self.pretext].answers(frames)
        self.head = nn.Linear(encoder.config.width, sum(self.answers))

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch. Parts: "accuracy", over all questions."""
        video = batch.video
        view, labels = draw_pretext(self.pretext, video, generator)
        logits = self.head(encoder(view).mean(1)).float().split(self.answers, dim=1)
        losses = [F.cross_entropy(x, labels[:, i]) for i, x in enumerate(logits)]
        hits = torch.stack([(x.argmax(1) == labels[:, i]).float().mean() for i, x in enumerate(logits)])
        return torch.stack(losses).mean(), {"accuracy": hits.mean()}
