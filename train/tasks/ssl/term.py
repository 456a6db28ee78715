"""What a term of the loss without labels is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.data.shapes import ClipLabels
from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.feature_predictor import FeaturePredictor
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.heads.token_predictor import PredictorConfig, TokenPredictor, TokenPredictorConfig
from vidgen.train.config.self_supervised import SSLRecipe, TeacherConfig
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.runtime.distributed import first_generator, gather_rows
from vidgen.train.tasks.task import Follow, Role
from vidgen.train.views.clips import ViewConfig
from vidgen.train.views.masks import Mask, MaskConfig, MaskDraw, draw_mask

# Masks that look at what the encoder reads, and make no sense of it.
BLIND_MASKS = {"pixels": (), "latents": ("flow",), "indices": ("motion", "redundancy", "flow", "region")}


def blank_clip(encoder: TokenEncoder, frames: int = 0) -> Tensor:
    """Return one clip of zeros as the encoder reads it, of pixels, latents or indices; of the encoder's frames, or of
    so many."""
    size = (frames or encoder.config.clip[0], *encoder.config.clip[1:])
    if not isinstance(encoder, VideoViT):
        return torch.zeros(1, 3, *size)
    shape = encoder.config
    return torch.zeros(1, 1, *size).long() if shape.codebook_size else torch.zeros(1, shape.in_channels, *size)


def unit_of(recipe: SSLRecipe) -> str:
    """Return what lengths of clips count, as messages name it."""
    return "frames" if recipe.reads == "pixels" else "latent frames"


def mask_of(values: dict[str, Any], encoder: TokenEncoder, recipe: SSLRecipe, frames: int = 0) -> MaskConfig:
    """Return a mask, of the encoder's clips or of so many `frames` of them. Raises VidgenError for one that hides all
    or nothing, for settings that are not its own, for one that looks at pixels where there are none, and for an encoder
    that needs all tokens."""
    encoder.check_partial()
    encoder.check_dense()
    mask = config_from_dict(MaskConfig, values, "mask")
    if mask.kind in BLIND_MASKS[recipe.reads]:
        raise VidgenError(
            f"mask {mask.kind} looks at pixels, and the encoder reads {recipe.reads}; choose another mask"
        )
    hide_tokens(mask, encoder, blank_clip(encoder, frames), torch.Generator().manual_seed(0))
    return mask


def hide_tokens(mask: MaskConfig, encoder: TokenEncoder, video: Tensor, generator: torch.Generator) -> Mask:
    """Draw which tokens of clips are seen and which are predicted."""
    drawn = draw_mask(mask, MaskDraw(len(video), encoder.grid_of(video), generator, video, encoder.config.patch))
    return Mask(*(places.to(video.device) for places in drawn))


def make_predictor(
    encoder: TokenEncoder, out: int, values: dict[str, Any], *, target_layer: str = ""
) -> TokenPredictor:
    """Return a predictor of `out` channels from the encoder's tokens, of a shape as a recipe says it."""
    shape = asdict(config_from_dict(PredictorConfig, values, "predictor"))
    config = TokenPredictorConfig(**shape, context_width=encoder.config.width, channels=out, target_layer=target_layer)
    return TokenPredictor(config)


def make_views(rows: Sequence[dict[str, Any]], encoder: TokenEncoder, recipe: SSLRecipe) -> list[ViewConfig]:
    """Return views of these fields. Raises VidgenError for those that the clips are too short for or patches do not
    fill, and for what cannot be done to latents or indices."""
    views = [config_from_dict(ViewConfig, dict(row), f"views.{i}") for i, row in enumerate(rows)]
    for view in views:
        if recipe.reads != "pixels" and (view.colour or view.gray):
            raise VidgenError(
                f"colours are of pixels, and the encoder reads {recipe.reads}; give views colour: 0, gray: 0"
            )
        if recipe.reads == "indices" and view.crop < 1:
            raise VidgenError("a crop is resized, and indices cannot be; give views crop: 1")
        count, patch = view.length(encoder.config.clip[0]), encoder.config.patch[0]
        if count // view.crops % patch:
            each = f", in each of {view.crops} crops," if view.crops > 1 else ""
            raise VidgenError(f"a view of {count} {unit_of(recipe)}{each} is no multiple of patches of {patch}")
    return views


def make_queue(length: int, channels: int, recipe: SSLRecipe) -> Float[Tensor, "m d"]:
    """Return a queue of embeddings, at first drawn ones. Raises VidgenError for one that batches do not fill."""
    if length % recipe.batch_size:
        raise VidgenError(f"queue={length} is no whole number of batches of {recipe.batch_size} clips")
    return F.normalize(torch.randn(length, channels), dim=1).to(recipe.device)


def segment_frames(frames: int, encoder: TokenEncoder) -> int:
    """Return the frames of a segment, 0 being a patch. Raises VidgenError for one that patches do not fill."""
    patch = encoder.config.patch[0]
    if frames % patch:
        raise VidgenError(f"segments of {frames} frames are no multiple of patches of {patch}")
    return frames or patch


def cut_segments(video: Float[Tensor, "b c T H W"], frames: int) -> Float[Tensor, "b s c t H W"]:
    """Return clips cut into segments of so many frames, without a rest."""
    count = video.shape[2] // frames
    return rearrange(video[:, :, : count * frames], "b c (s t) h w -> b s c t h w", s=count)


def embed_each(encoder: TokenEncoder, segments: Float[Tensor, "*b c t h w"]) -> Float[Tensor, "*b d"]:
    """Return the mean token of each segment, which the encoder sees alone."""
    return encoder(segments.flatten(0, -5)).mean(1).unflatten(0, segments.shape[:-4])


def whole_batch(module: nn.Module, rows: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """Return the rows of a batch's clips from those of this process's part of them, in training; validation is of one
    process.

    What an encoder says of clips is gathered so before whatever sees several of them: negatives, moments, balanced
    clusters, and batch norm of projectors. From there on every process does the same.
    """
    return gather_rows(rows) if module.training else rows


def batch_generator(module: nn.Module, generator: torch.Generator) -> torch.Generator:
    """Return the generator of draws that are of a whole batch, in all processes the same."""
    return first_generator(generator) if module.training else generator


class ClipBatch(NamedTuple):
    """Clips as the encoder reads them, pixels in [-1, 1] or a tokenizer's cells; their captions, their labels where
    they are of the synthetic world, and their pixels where `video` is of cells."""

    video: Float[Tensor, "b c T H W"]
    captions: Sequence[str] = ()
    labels: Sequence[ClipLabels | None] = ()
    clips: Float[Tensor, "b 3 T H W"] | None = None

    @property
    def pixels(self) -> Float[Tensor, "b 3 T H W"]:
        """The clips in [-1, 1]."""
        return self.video if self.clips is None else self.clips


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

    def feature_predictor(self, encoder: TokenEncoder) -> FeaturePredictor | None:
        """Return what predicts features of hidden tokens, where the term learns such a thing."""
        return None

    def state_dict_of_term(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds beside parameters, such as a queue."""
        return {}

    def load_state_dict_of_term(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict_of_term`."""
