"""Masked prediction: MAE and JEPA are one term, and differ by their targets and by who makes these."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.video_vit import take_rows
from vidgen.train.config.self_supervised import MaskedTermConfig, SSLRecipe, TeacherConfig
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.objectives.predictive import masked_regression
from vidgen.train.objectives.siamese import check_rows, covariance_term, sigreg, variance_term
from vidgen.train.tasks.ssl.targets import Target, fixed_target, token_target
from vidgen.train.tasks.ssl.term import ClipBatch, Term, hide_tokens, make_predictor, mask_of


class MaskedTerm(Term):
    """Tokens that are hidden are predicted from those that are seen (He et al. 2022, MAE; Bardes et al. 2024, V-JEPA).

    With a `regularizer` the encoder's tokens of whole clips are the targets, with their gradient, and their mean over a
    clip is kept from collapse by VICReg's terms or by SIGReg (Maes et al. 2025, LeWM; Balestriero & LeCun 2025).
    Raises VidgenError for a mask that hides all or nothing of such clips.
    """

    def __init__(self, config: MaskedTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.config = config
        self.mask = mask_of(config.mask, encoder)
        if config.regularizer:
            check_rows(recipe.batch_size)
        self.target, width = self.make_target(encoder, recipe.device)
        self.predictor = make_predictor(encoder, width, config.predictor)

    def make_target(self, encoder: TokenEncoder, device: str) -> tuple[Target, int]:
        """Return what makes the targets of clips, and their channels."""
        config, shape = self.config, encoder.config
        if config.target == "teacher":
            teacher = deepcopy(encoder)
            self.add_teacher("teacher", teacher, encoder, config_from_dict(TeacherConfig, config.teacher, "teacher"))
            target: Target = partial(token_target, teacher)
        elif config.target == "self":
            target = partial(token_target, encoder)
        else:
            target = fixed_target(config, shape, device)
        with torch.no_grad():
            return target, target(torch.zeros(1, 3, *shape.clip, device=device)).shape[-1]

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch."""
        video = batch.video
        config, grid = self.config, encoder.grid_of(video)
        keep, asked = hide_tokens(self.mask, encoder, video, generator)
        if config.target == "self" and config.regularizer:
            targets = self.target(video)
        else:
            with torch.no_grad():
                targets = self.target(video)
        places = torch.cat([asked, keep], dim=1) if config.visible else asked
        predictions = self.predictor(encoder(video, keep), keep, places, grid)
        hidden = torch.arange(places.shape[1], device=video.device) < asked.shape[1]
        goals = take_rows(targets, places)
        settings = {"distance": config.distance, "visible": config.visible, "stop_gradient": not goals.requires_grad}
        loss, parts = masked_regression(predictions, goals, hidden.expand(places.shape), **settings)
        if not config.regularizer:
            return loss, parts
        kept_apart = self.regularize(targets.mean(1), generator)
        return loss + config.regularizer_weight * kept_apart, parts | {config.regularizer: kept_apart.detach()}

    def regularize(self, z: Float[Tensor, "b d"], generator: torch.Generator) -> Float[Tensor, ""]:
        """Return what keeps embeddings of clips from collapsing."""
        if self.config.regularizer == "sigreg":
            return sigreg(z, generator=generator)[0]
        return variance_term(z) + covariance_term(z) / 25.0  # VICReg's weights of the two, over that of variance
