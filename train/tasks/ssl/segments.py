"""Pretexts on several segments of a clip: one encoder sees each alone, and one head tells of all of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.heads.mlp import Projector
from vidgen.train.config.correspondence import SegmentsTermConfig
from vidgen.train.config.self_supervised import SSLRecipe
from vidgen.train.objectives.contrastive import check_batch
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.ssl.term import ClipBatch, Term, embed_each, whole_batch
from vidgen.train.views.segment_pretexts import SEGMENT_PRETEXTS, SegmentPretext, draw_segments

EMBEDDING = 64
TEMPERATURE = 0.1


class PickHead(nn.Module):
    """A score of each segment beside the mean of the others, the same map for all: who it is does not depend on where
    it stands."""

    def __init__(self, width: int, pretext: SegmentPretext) -> None:
        super().__init__()
        self.score = Projector(2 * width, EMBEDDING, 1, norm="none")

    def forward(self, z: Float[Tensor, "b s d"]) -> Float[Tensor, "b s"]:
        """Return the logits of segments."""
        others = (z.sum(1, keepdim=True) - z) / (z.shape[1] - 1)
        return self.score(torch.cat([z, others], dim=-1)).squeeze(-1)


class PairwiseHead(nn.Module):
    """Features of every pair of segments, from which their order is told (Lee et al. 2017, OPN)."""

    def __init__(self, width: int, pretext: SegmentPretext) -> None:
        super().__init__()
        self.pairs = list(combinations(range(pretext.count), 2))
        self.relate = nn.ModuleList([nn.Linear(2 * width, EMBEDDING) for _ in self.pairs])
        self.answer = nn.Linear(len(self.pairs) * EMBEDDING, pretext.answers)

    def forward(self, z: Float[Tensor, "b s d"]) -> Float[Tensor, "b answers"]:
        """Return the logits of orders."""
        rows = [F.relu(layer(z[:, pair].flatten(1))) for layer, pair in zip(self.relate, self.pairs, strict=True)]
        return self.answer(torch.cat(rows, dim=1))


class JoinHead(nn.Module):
    """All segments' features beside each other (Kim et al. 2019, Cubic Puzzles: late fusion)."""

    def __init__(self, width: int, pretext: SegmentPretext) -> None:
        super().__init__()
        self.answer = Projector(pretext.count * width, 4 * EMBEDDING, pretext.answers, norm="none")

    def forward(self, z: Float[Tensor, "b s d"]) -> Float[Tensor, "b answers"]:
        """Return the logits of answers."""
        return self.answer(z.flatten(1))


class MatchHead(nn.Module):
    """How near the first segment is to each of the others (Chen et al. 2021, RSPNet, with a softmax in place of
    the margin)."""

    def __init__(self, width: int, pretext: SegmentPretext) -> None:
        super().__init__()
        self.project = Projector(width, EMBEDDING, EMBEDDING, norm="none")

    def forward(self, z: Float[Tensor, "b s d"]) -> Float[Tensor, "b r"]:
        """Return the logits of the others."""
        rows = F.normalize(self.project(z).float(), dim=-1)
        return (rows[:, :1] * rows[:, 1:]).sum(-1) / TEMPERATURE


class ContrastHead(nn.Module):
    """Which second segment of the batch belongs to a first one, whose feature a predictor tells (CPNet; the clip's own
    first segment is told from it too, so that what they share does not do)."""

    def __init__(self, width: int, pretext: SegmentPretext) -> None:
        super().__init__()
        self.project = Projector(width, EMBEDDING, EMBEDDING, norm="none")
        self.predict = Projector(EMBEDDING, EMBEDDING, EMBEDDING, norm="none")

    def forward(self, z: Float[Tensor, "b two d"]) -> Float[Tensor, "b n"]:
        """Return the logits of all second segments, and then of all first ones."""
        first, second = whole_batch(self, self.project(z)).unbind(1)
        rows = F.normalize(torch.cat([second, first]).float(), dim=-1)
        return F.normalize(self.predict(first).float(), dim=-1) @ rows.T / TEMPERATURE


HEADS: dict[str, Callable[[int, SegmentPretext], nn.Module]] = {
    "pick": PickHead,
    "pairwise": PairwiseHead,
    "join": JoinHead,
    "match": MatchHead,
    "contrast": ContrastHead,
}


class SegmentsTerm(Term):
    """The cross-entropy of a pretext's answer, which a head tells from the mean tokens of segments; where clips have
    none, the answer is the clip's own place in the batch.

    Raises VidgenError for clips that are too short for it, or whose segments no patches fill.
    """

    def __init__(self, config: SegmentsTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.name, self.pretext = config.pretext, SEGMENT_PRETEXTS[config.pretext]
        if self.pretext.head == "contrast":
            check_batch(recipe.batch_size)
        clip = torch.zeros(1, 3, recipe.data.num_frames, *recipe.data.size)
        segments, _ = draw_segments(self.name, clip, torch.Generator().manual_seed(0))
        if any(n % p for n, p in zip(segments.shape[3:], encoder.config.patch, strict=True)):
            raise VidgenError(
                f"pretext {self.name} has segments of {tuple(segments.shape[3:])} (frames, height, width), no multiple "
                f"of the encoder's patches {encoder.config.patch}"
            )
        self.head = HEADS[self.pretext.head](encoder.config.width, self.pretext)

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch. Parts: "accuracy"."""
        segments, labels = draw_segments(self.name, batch.video, generator)
        logits = self.head(embed_each(encoder, segments)).float()
        answers = torch.arange(len(logits), device=logits.device) if self.pretext.answers == 1 else labels
        return F.cross_entropy(logits, answers), {"accuracy": (logits.argmax(1) == answers).float().mean()}
