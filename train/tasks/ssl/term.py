"""What a term of the loss without labels is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.data.shapes import ClipLabels
from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.video_vit import PARTIAL
from vidgen.models.heads.token_predictor import TokenPredictor
from vidgen.train.config.self_supervised import PredictorConfig, TeacherConfig
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.task import Follow, Role
from vidgen.train.views.masks import Mask, MaskConfig, MaskDraw, draw_mask


def mask_of(values: dict[str, Any], encoder: TokenEncoder) -> MaskConfig:
    """Return a mask. Raises VidgenError for one that hides all or nothing of the encoder's clips, for settings that are
    not its own, and for an encoder that needs all tokens."""
    config = encoder.config
    if not encoder.maskable:
        raise VidgenError(
            f"this encoder needs every token, and a mask hides some; choose mixer {' or '.join(PARTIAL)}, and no "
            "adaptation over time or by a class token"
        )
    mask = config_from_dict(MaskConfig, values, "mask")
    grid = tuple(n // p for n, p in zip(config.clip, config.patch, strict=True))
    draw_mask(mask, MaskDraw(1, grid, torch.Generator().manual_seed(0), torch.zeros(1, 3, *config.clip), config.patch))
    return mask


def check_dense(encoder: TokenEncoder) -> None:
    """Raise VidgenError for an encoder whose tokens stand for no patches of a clip."""
    if not encoder.dense:
        raise VidgenError("this term is of patches, and tokens of this adaptation stand for none; take another term")


def hide_tokens(mask: MaskConfig, encoder: TokenEncoder, video: Tensor, generator: torch.Generator) -> Mask:
    """Draw which tokens of clips are seen and which are predicted."""
    drawn = draw_mask(mask, MaskDraw(len(video), encoder.grid_of(video), generator, video, encoder.config.patch))
    return Mask(*(places.to(video.device) for places in drawn))


def make_predictor(encoder: TokenEncoder, out: int, values: dict[str, Any]) -> TokenPredictor:
    """Return a predictor of `out` channels from the encoder's tokens, of a shape as a recipe says it."""
    shape = config_from_dict(PredictorConfig, values, "predictor")
    return TokenPredictor(encoder.config.width, out, width=shape.width, depth=shape.depth, head_dim=shape.head_dim)


class ClipBatch(NamedTuple):
    """Clips in [-1, 1], their captions, and their labels where they are of the synthetic world."""

    video: Float[Tensor, "b 3 T H W"]
    captions: Sequence[str] = ()
    labels: Sequence[ClipLabels | None] = ()


class Term(nn.Module):
    """A part of the loss: its own heads are its parameters, the encoder is the task's.

    `frozen` are modules that are not trained, by name: no checkpoint of the model holds them. `teachers` are those of
    them that follow a module that is.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.frozen: dict[str, nn.Module] = {}
        self.teachers: dict[str, tuple[nn.Module, TeacherConfig]] = {}

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch of clips, every random number from `generator`."""
        raise NotImplementedError

    def add_teacher(self, name: str, teacher: nn.Module, student: nn.Module, config: TeacherConfig) -> None:
        """Keep a teacher, a copy of `student`, that is to follow it."""
        self.frozen[name] = teacher.requires_grad_(False)
        self.teachers[name] = (student, config)

    def roles(self) -> dict[str, Role]:
        """Return the teachers as roles."""
        return {
            name: Role(
                module=self.frozen[name],
                follow=Follow(source=student, decay=config.decay, final_decay=config.final_decay),
            )
            for name, (student, config) in self.teachers.items()
        }

    def state_dict_of_term(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds beside parameters, such as a queue."""
        return {}

    def load_state_dict_of_term(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict_of_term`."""
