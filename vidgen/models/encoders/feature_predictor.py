"""An encoder with what predicts features of places that it does not see: a world model of clips, without pixels."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.heads.token_predictor import TokenPredictor
from vidgen.models.placement import PlacedModule

PREDICTOR, TEACHER = "predictor", "teacher"  # folders of the parts, within that of the encoder


def normalized_tokens(maps: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b n c"]:
    """Return the vectors of a map, each normalized over its channels."""
    rows = rearrange(maps.float(), "b c t h w -> b (t h w) c")
    return F.layer_norm(rows, rows.shape[-1:])


def output_tokens(encoder: TokenEncoder, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
    """Return the encoder's own tokens of whole clips, each normalized (V-JEPA: without weights of their own)."""
    tokens = encoder(video).float()
    return F.layer_norm(tokens, tokens.shape[-1:])


class FeaturePredictor(PlacedModule):
    """Features of hidden tokens, as a teacher has them, told from the tokens that an encoder sees (Bardes et al. 2024,
    V-JEPA). Told of the frames to come it is a world model: how far it is off is a surprise.

    A folder of it is a folder of the encoder, which opens as one, with the other parts in "predictor" and "teacher";
    without the latter the encoder is its own teacher. Raises VidgenError for parts that do not fit.
    """

    def __init__(self, *, encoder: VideoViT, predictor: TokenPredictor, teacher: VideoViT) -> None:
        super().__init__()
        self.encoder, self.predictor, self.teacher = encoder, predictor, teacher
        if (width := predictor.config.context_width) != encoder.config.width:
            raise VidgenError(
                f"a predictor of tokens of {width} channels does not fit an encoder of {encoder.config.width}"
            )
        if predictor.config.channels != teacher.config.width or teacher.config.patch != encoder.config.patch:
            raise VidgenError("the teacher's tokens are not what the predictor predicts; they come from another model")

    @torch.no_grad()
    def features(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b t h w d"]:
        """Return what is predicted: the teacher's features of clips, which it sees whole."""
        layer = self.predictor.config.target_layer
        if layer:
            tokens = normalized_tokens(next(x for name, x in self.teacher.iter_features(video) if name == layer))
        else:
            tokens = output_tokens(self.teacher, video)
        t, h, _ = self.teacher.grid_of(video)
        return rearrange(tokens, "b (t h w) d -> b t h w d", t=t, h=h)

    def forward(self, video: Float[Tensor, "b 3 T H W"], seen: int, ahead: int) -> Float[Tensor, "b s h w d"]:
        """Return predictions of the features of `ahead` token frames after the first `seen`, of which alone the encoder
        is shown the clip. Raises ValueError for frames that the clip does not have.
        """
        t, h, w = grid = self.encoder.grid_of(video)
        if not (0 < seen < t and 0 < ahead <= t - seen):
            raise ValueError(f"a clip of {t} token frames has no {ahead} after the first {seen}")
        places = torch.arange(t * h * w, device=video.device).expand(len(video), -1)
        keep, asked = places[:, : seen * h * w], places[:, seen * h * w : (seen + ahead) * h * w]
        predictions = self.predictor(self.encoder(video, keep), keep, asked, grid)
        return rearrange(predictions, "b (t h w) d -> b t h w d", t=ahead, h=h)

    def fresh(self) -> FeaturePredictor:
        """Return one of the same shape with random weights."""
        encoder = VideoViT(self.encoder.config)
        teacher = encoder if self.teacher is self.encoder else VideoViT(self.teacher.config)
        return FeaturePredictor(encoder=encoder, predictor=TokenPredictor(self.predictor.config), teacher=teacher)

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write all parts to `folder`, or nothing."""
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as target:
            self.encoder.save_pretrained(target, dtype=dtype)
            self.predictor.save_pretrained(target / PREDICTOR, dtype=dtype)
            if self.teacher is not self.encoder:
                self.teacher.save_pretrained(target / TEACHER, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike, *, dtype: torch.dtype | None = torch.float32, device: str = "cpu"
    ) -> FeaturePredictor:
        """Return the model in `folder`. Raises VidgenError where an encoder there has no predictor."""
        folder = Path(folder)
        if not predicts_features(folder):
            raise VidgenError(f"{folder} has no predictor of features; train one by a recipe that has, as ssl/jepa")
        settings = {"dtype": dtype, "device": device}
        encoder = VideoViT.from_pretrained(folder, **settings)
        has_teacher = (folder / TEACHER).is_dir()
        return cls(
            encoder=encoder,
            predictor=TokenPredictor.from_pretrained(folder / PREDICTOR, **settings),
            teacher=VideoViT.from_pretrained(folder / TEACHER, **settings) if has_teacher else encoder,
        )


def predicts_features(folder: str | os.PathLike) -> bool:
    """Return whether a folder holds a predictor of features beside an encoder."""
    return (Path(folder) / PREDICTOR).is_dir()
