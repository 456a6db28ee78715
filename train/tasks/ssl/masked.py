"""Masked prediction: MAE and JEPA are one term, and differ by their targets and by who makes these."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.feature_predictor import FeaturePredictor, output_tokens
from vidgen.models.encoders.video_vit import VideoViT, take_rows
from vidgen.train.config.self_supervised import MaskedTermConfig, SSLRecipe, TeacherConfig
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.objectives.predictive import masked_regression
from vidgen.train.objectives.siamese import check_rows, covariance_term, sigreg, variance_term
from vidgen.train.tasks.ssl.targets import FeatureTarget, Target, fixed_target
from vidgen.train.tasks.ssl.term import (
    ClipBatch,
    Term,
    batch_generator,
    blank_clip,
    hide_tokens,
    make_predictor,
    make_views,
    mask_of,
    whole_batch,
)
from vidgen.train.views.clips import draw_view


class MaskedTerm(Term):
    """Tokens that are hidden are predicted from those that are seen (He et al. 2022, MAE; Bardes et al. 2024, V-JEPA).

    With a `regularizer` the encoder's tokens of whole clips are the targets, with their gradient, and their mean over a
    clip is kept from collapse by VICReg's terms or by SIGReg (Maes et al. 2025, LeWM; Balestriero & LeCun 2025).
    Raises VidgenError for a mask that hides all or nothing of such clips.
    """

    def __init__(self, config: MaskedTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.config = config
        self.view = make_views([config.view], encoder, recipe)[0] if config.view else None
        frames = self.view.length(encoder.config.clip[0]) if self.view else 0
        self.mask = mask_of(config.mask, encoder, recipe, frames)
        if config.regularizer:
            check_rows(recipe.batch_size)
        self.target, width = self.make_target(encoder, recipe)
        layer = self.target.info.name if isinstance(self.target, FeatureTarget) else ""
        self.predictor = make_predictor(encoder, width, config.predictor, target_layer=layer)

    def make_target(self, encoder: TokenEncoder, recipe: SSLRecipe) -> tuple[Target, int]:
        """Return what makes the targets of clips, and their channels."""
        config = self.config
        if config.target == "teacher":
            teacher = deepcopy(encoder)
            self.add_teacher("teacher", teacher, encoder, config_from_dict(TeacherConfig, config.teacher, "teacher"))
            target: Target = partial(output_tokens, teacher)
        elif config.target == "self":
            target = partial(output_tokens, encoder)
        else:
            target = fixed_target(config, encoder.config, recipe)
        with torch.no_grad():
            return target, target(blank_clip(encoder).to(recipe.device)).shape[-1]

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch."""
        video = draw_view(self.view, batch.video, generator) if self.view else batch.video
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
        kept_apart = self.regularize(whole_batch(self, targets.mean(1)), batch_generator(self, generator))
        return loss + config.regularizer_weight * kept_apart, parts | {config.regularizer: kept_apart.detach()}

    def regularize(self, z: Float[Tensor, "b d"], generator: torch.Generator) -> Float[Tensor, ""]:
        """Return what keeps embeddings of clips from collapsing."""
        if self.config.regularizer == "sigreg":
            return sigreg(z, generator=generator)[0]
        return variance_term(z) + covariance_term(z) / 25.0  # VICReg's weights of the two, over that of variance

    def feature_predictor(self, encoder: TokenEncoder) -> FeaturePredictor | None:
        """Return what predicts features of hidden tokens; None where pixels or latents are the targets, or another
        library's features."""
        if self.config.target == "teacher":
            teacher = self.frozen["teacher"]
        elif isinstance(self.target, FeatureTarget):
            teacher = self.target.encoder
        else:
            teacher = encoder if self.config.target == "self" else None
        if not (isinstance(encoder, VideoViT) and isinstance(teacher, VideoViT)):
            return None
        if teacher.config.patch != encoder.config.patch:
            return None
        return FeaturePredictor(encoder=encoder, predictor=self.predictor, teacher=teacher)
