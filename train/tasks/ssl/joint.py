"""Joint embedding: views of one clip agree. Contrastive, self-distilled and decorrelated systems are one term."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict
from itertools import combinations, permutations
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.heads.critic import LipschitzCritic
from vidgen.models.heads.mlp import Projector, Prototypes
from vidgen.train.config.self_supervised import JointTermConfig, ProjectorConfig, SSLRecipe, TeacherConfig
from vidgen.train.objectives.clusters import dino, move_center, swav
from vidgen.train.objectives.contrastive import check_batch, info_nce, nt_xent, wasserstein_dependency
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.objectives.siamese import barlow_twins, cosine_regression, sigreg, vicreg
from vidgen.train.tasks.ssl.term import ClipBatch, Term, batch_generator, make_queue, make_views, whole_batch
from vidgen.train.views.clips import draw_view

Rows = Float[Tensor, "b d"]
Clips = Float[Tensor, "b c T H W"]
View = TypeVar("View")  # what is read of the encoder by: clips, or what it says of them


class JointViews(NamedTuple):
    """Embeddings of views: what predicts, what was projected, the targets, negatives, what chance there is, and who
    scores pairs of "wasserstein"."""

    predictions: Sequence[Rows]
    embeddings: Sequence[Rows]
    targets: Sequence[Rows]
    negatives: Rows | None
    center: Float[Tensor, " k"]
    generator: torch.Generator
    critic: LipschitzCritic | None = None


def mean_over(losses: Sequence[LossAndParts]) -> LossAndParts:
    """Return the mean of losses and of their parts."""
    parts = {name: torch.stack([p[name] for _, p in losses]).mean() for name in losses[0][1]}
    return torch.stack([loss for loss, _ in losses]).mean(), parts


def over_pairs(
    objective: Callable[..., LossAndParts], left: Sequence[Rows], right: Sequence[Rows], **settings: Any
) -> LossAndParts:
    """Return the mean over ordered pairs of different views."""
    return mean_over([objective(left[i], right[j], **settings) for i, j in permutations(range(len(left)), 2)])


def agree_lejepa(views: JointViews, *, weight: float = 0.05, whole: int = 2, **settings: Any) -> LossAndParts:
    """Return (1 - weight) times the distance of views to the mean of the first `whole` ones, and weight times SIGReg of
    each view (Balestriero & LeCun 2025, LeJEPA)."""
    z = torch.stack(list(views.embeddings)).float()
    invariance = (z - z[:whole].mean(0)).square().mean()
    normal = mean_over([sigreg(x, generator=views.generator, **settings) for x in views.embeddings])[0]
    parts = {"invariance": invariance.detach(), "sigreg": normal.detach()}
    return (1.0 - weight) * invariance + weight * normal, parts


def agree_wasserstein(views: JointViews) -> LossAndParts:
    """Return the Wasserstein dependency of pairs of views, by the distance of their unit embeddings."""

    def dependency(a: Rows, b: Rows) -> LossAndParts:
        return wasserstein_dependency(views.critic(F.normalize(a.float(), dim=-1), F.normalize(b.float(), dim=-1)))

    return over_pairs(dependency, views.predictions, views.targets)


def in_pairs(objective: Callable[..., LossAndParts]) -> Callable[..., LossAndParts]:
    """Return a symmetric objective of two views as one of all pairs."""

    def agree(views: JointViews, **settings: Any) -> LossAndParts:
        return mean_over([objective(a, b, **settings) for a, b in combinations(views.embeddings, 2)])

    return agree


OBJECTIVES: dict[str, Callable[..., LossAndParts]] = {
    "info_nce": lambda v, **s: over_pairs(info_nce, v.predictions, v.targets, negatives=v.negatives, **s),
    "byol": lambda v, **s: over_pairs(cosine_regression, v.predictions, v.targets, **s),
    "nt_xent": in_pairs(nt_xent),
    "barlow": in_pairs(barlow_twins),
    "vicreg": in_pairs(vicreg),
    "lejepa": agree_lejepa,
    "wasserstein": agree_wasserstein,
    "swav": lambda v, **s: swav(v.predictions, **s),
    "dino": lambda v, **s: dino(v.predictions, v.targets, v.center, **s),
}


class JointTerm(Term):
    """The mean token of each view is projected, and what is predicted of one view is to be another's target.

    Views are of a process's own clips; embeddings, queue and centre are of the whole batch, the same in all processes.
    Raises VidgenError for views that the clips are too short for, one clip in a batch, a queue that is no whole number
    of batches, and settings that the objective cannot have. `features` are the channels of what is projected, 0 for the
    encoder's.
    """

    def __init__(self, config: JointTermConfig, encoder: TokenEncoder, recipe: SSLRecipe, *, features: int = 0) -> None:
        super().__init__(config.weight)
        self.config, device = config, recipe.device
        check_batch(recipe.batch_size)
        views = make_views((*config.views, *config.negatives), encoder, recipe)
        self.views, self.negatives = views[: len(config.views)], views[len(config.views) :]
        if config.agreement not in OBJECTIVES:
            raise VidgenError(f"agreement {config.agreement!r} is unknown; choose one of {', '.join(OBJECTIVES)}")
        shape = config_from_dict(ProjectorConfig, config.projector, "projector")
        self.projector = Projector(features or encoder.config.width, **asdict(shape))
        width = shape.channels
        second = config_from_dict(ProjectorConfig, config.predictor | {"channels": width}, "predictor")
        self.predictor = Projector(width, **asdict(second)) if config.predictor else None
        self.prototypes = Prototypes(width, config.prototypes) if config.prototypes else None
        self.critic = LipschitzCritic(width).to(device) if config.agreement == "wasserstein" else None
        self.queue = make_queue(config.queue, width, recipe) if config.queue else None
        self.center = torch.zeros(config.prototypes or width, device=device)
        self.check_settings(width, device)
        if config.teacher:
            student = nn.ModuleDict({"encoder": encoder, "projector": self.projector})
            if self.prototypes is not None:
                student["prototypes"] = self.prototypes
            settings = config_from_dict(TeacherConfig, config.teacher, "teacher")
            self.add_teacher("teacher", deepcopy(student).to(device), student, settings)

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch. In training the queue takes the targets in, and the centre moves."""
        views, others = self.draw_views(batch.video, generator)
        return self.compare(lambda view: encoder(view).mean(1), views, others, generator)

    def draw_views(self, video: Clips, generator: torch.Generator) -> tuple[list[Clips], list[Clips]]:
        """Draw the views that agree, and those that clips are told from."""
        views = [draw_view(config, video, generator) for config in self.views]
        return views, [draw_view(config, video, generator) for config in self.negatives]

    def compare(
        self, read: Callable[[View], Rows], views: Sequence[View], others: Sequence[View], generator: torch.Generator
    ) -> LossAndParts:
        """Return the loss of views, and of others that clips are told from, by what the encoder says of each: `read`,
        of this process's clips."""
        embeddings = [self.projector(whole_batch(self, read(view))) for view in views]
        predictions = embeddings if self.predictor is None else [self.predictor(z) for z in embeddings]
        if self.prototypes is not None:
            predictions = [self.prototypes(p) for p in predictions]
        targets = embeddings if not self.config.teacher else [self.teach(view) for view in views]
        embed = self.teach if self.config.teacher else lambda view: self.projector(whole_batch(self, read(view)))
        rows = [embed(view) for view in others] + ([] if self.queue is None else [self.queue])
        negatives = torch.cat(rows) if rows else None
        same = batch_generator(self, generator)
        joint = JointViews(predictions, embeddings, targets, negatives, self.center, same, self.critic)
        loss, parts = self.agree(joint)
        if self.training:
            self.remember(targets)
        return loss, parts

    def agree(self, views: JointViews) -> LossAndParts:
        """Return the objective."""
        return OBJECTIVES[self.config.agreement](views, **self.config.settings)

    def check_settings(self, width: int, device: str) -> None:
        """Raise VidgenError for settings that the objective does not have, or with which it gives no number."""
        generator = torch.Generator().manual_seed(0)
        shape = (4, self.config.prototypes or width)
        rows = [torch.randn(shape, generator=generator).to(device) for _ in self.views]
        views = JointViews(rows, rows, rows, None, self.center, generator, self.critic)
        try:
            finite = bool(self.agree(views)[0].isfinite())
        except (TypeError, ValueError, RuntimeError, VidgenError):
            finite = False
        if not finite:
            raise VidgenError(f"settings {self.config.settings} are not ones of {self.config.agreement}")

    @torch.no_grad()
    def teach(self, view: Clips) -> Rows:
        """Return the teacher's embedding of a view, or its logits; in training it normalizes by its own batch, as the
        student does (BYOL)."""
        teacher = self.frozen["teacher"].train(self.training)
        z = teacher["projector"](whole_batch(self, teacher["encoder"](view).mean(1)))
        return teacher["prototypes"](z) if self.prototypes is not None else z

    @torch.no_grad()
    def remember(self, targets: Sequence[Rows]) -> None:
        """Put the targets of the last view in the queue, the oldest out; move the centre of "dino"."""
        if self.queue is not None:
            newest = F.normalize(targets[-1].float(), dim=1)
            self.queue = torch.cat([self.queue[len(newest) :], newest])
        if self.config.agreement == "dino":
            self.center = move_center(self.center, torch.cat(list(targets)))

    def state_dict_of_term(self) -> dict[str, Tensor]:
        """Return the queue and the centre."""
        return {"center": self.center} | ({} if self.queue is None else {"queue": self.queue})

    def load_state_dict_of_term(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict_of_term`."""
        self.center = state["center"].to(self.center)
        if self.queue is not None:
            self.queue = state["queue"].to(self.queue)
