"""An encoder over a tokenizer's latents, or over its indices, as an encoder of clips; and its folders."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.bounds import Choice, Range, check_fields
from vidgen.checkpoints.pretrained import CONFIG_NAME, config_from_dict, read_config
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.interfaces import Tokenizer
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.clip_encoder import Size, TrainedClips
from vidgen.models.encoders.reduced import ReducedEncoder
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.models.placement import PlacedModule
from vidgen.representations.baselines import random_like

LATENTS, INDICES = CELLS = ("latents", "indices")  # of a tokenizer, that an encoder reads
ENCODER = "encoder"  # folder of the encoder over them, within that of the whole
Cells = Tensor  # latents (b, c, t, h, w), or indices (b, 1, t, h, w)


def read_cells(tokenizer: Tokenizer, video: Float[Tensor, "b 3 T H W"], reads: str) -> Cells:
    """Return a tokenizer's normalized latents (b, c, t, h, w) of clips in float32, or its indices (b, 1, t, h, w)."""
    encoded = tokenizer.encode(video.to(tokenizer.device))
    return encoded.indices[:, None] if reads == INDICES else encoded.latents.float()


def cell_size(tokenizer: Tokenizer) -> Grid:
    """Return the frames, height and width in pixels of a cell of latents; the first frame has a cell of its own."""
    (info,) = [info for info in tokenizer.feature_info if info.name == "latents"]
    return info.reduction


def check_cells(tokenizer: Tokenizer, patch: Grid) -> None:
    """Raise VidgenError for patches of several latent frames where the first of these is of a single frame."""
    if patch[0] > 1 and cell_size(tokenizer)[0] > 1:
        raise VidgenError(
            f"patches of {patch} latent cells: the first latent frame of {tokenizer.config.name} is one frame, and the "
            f"others are {cell_size(tokenizer)[0]}; give patches of one, as {(1, *patch[1:])}"
        )


@dataclass(frozen=True, kw_only=True)
class LatentShape:
    """What a `LatentEncoder` is: what it `reads`, the clips (frames, height, width in pixels) and rate that it was
    trained at, and the config of the `encoder` over cells."""

    reads: str
    clip: tuple[int, int, int]
    fps: float
    encoder: object


@dataclass(frozen=True, kw_only=True)
class LatentEncoderConfig:
    """config.json of a `LatentEncoder`: see `LatentShape`; the name or folder of its `tokenizer`, and that one's
    hash."""

    reads: Annotated[str, Choice(CELLS)]
    clip: tuple[Size, Size, Size]
    fps: Annotated[float, Range(0.0, 1000.0, above=True)]
    tokenizer: str
    tokenizer_hash: str

    def __post_init__(self) -> None:
        check_fields(self)


class LatentEncoder(TrainedClips, FeatureMixin, PlacedModule):
    """A tokenizer, and an encoder over its latents or its indices: an `Encoder` of clips of pixels. Layers are those of
    the encoder, with reductions in frames and pixels.

    Clips are of any number of frames, T making 1 + ceil((T - 1) / f_t) latent frames: the tokenizer repeats the last
    one to fill a cell. Raises VidgenError for an encoder of other channels, and for patches of several latent frames
    where the first of these is of a single frame.

    Args:
        tokenizer: It is not trained.
        encoder: A `VideoViT` over its cells, or one of fewer tokens around such a one.
        reads: "latents" or "indices".
        clip: Frames, height and width, in pixels, of the clips of training.
        fps: Their rate.
    """

    config: LatentShape

    def __init__(
        self, tokenizer: Tokenizer, encoder: VideoViT | ReducedEncoder, reads: str, *, clip: Grid, fps: float
    ) -> None:
        super().__init__()
        self.tokenizer, self.encoder = tokenizer, encoder
        shape = encoder.encoder.config if isinstance(encoder, ReducedEncoder) else encoder.config
        self.patch = shape.patch
        if reads == LATENTS and shape.in_channels != (channels := tokenizer.config.latent_channels):
            raise VidgenError(
                f"an encoder of {shape.in_channels} channels is not for {tokenizer.config.name}, which has {channels}"
            )
        if (reads == INDICES) != (shape.codebook_size > 0):
            raise VidgenError(f"an encoder with codebook_size={shape.codebook_size} reads no {reads}")
        check_cells(tokenizer, self.patch)
        self.config = LatentShape(reads=reads, clip=tuple(clip), fps=fps, encoder=encoder.config)

    def cells_of(self, video: Float[Tensor, "b 3 T H W"]) -> Cells:
        """Return what the encoder reads of clips in [-1, 1]. Raises VidgenError for clips whose cells patches do not
        fill."""
        cell = cell_size(self.tokenizer)
        places = (-(-n // c) for n, c in zip(video.shape[3:], cell[1:], strict=True))
        sizes = (self.tokenizer.latent_frames(video.shape[2]), *places)
        names, cells = ("frames", "height", "width"), zip(sizes, self.patch, cell, strict=True)
        wrong = [(name, c * p) for name, (n, p, c) in zip(names, cells, strict=True) if n % p]
        if wrong:
            axis, multiple = wrong[0]
            raise VidgenError(
                f"clips of {tuple(video.shape[2:])} (frames, height, width): {axis} is no multiple of the encoder's "
                f"patches of {multiple}; crop them"
            )
        return read_cells(self.tokenizer, video, self.config.reads)

    def forward(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
        """Return the tokens of clips. Raises VidgenError for an encoder of fewer tokens, which has features alone."""
        if isinstance(self.encoder, ReducedEncoder):
            raise VidgenError("an encoder of fewer tokens has features alone: iter_features gives its maps")
        return self.encoder(self.cells_of(video))

    def around(self, encoder: ReducedEncoder) -> LatentEncoder:
        """Return the same tokenizer with an encoder of fewer tokens."""
        return LatentEncoder(
            self.tokenizer, encoder, self.config.reads, clip=self.config.clip, fps=self.config.fps
        ).eval()

    def fresh(self) -> LatentEncoder:
        """Return the same architecture with new random weights, those of the tokenizer too."""
        inner = self.encoder
        encoder = inner.fresh() if isinstance(inner, ReducedEncoder) else VideoViT(inner.config)
        tokenizer = random_like(self.tokenizer, seed=int(torch.randint(2**31, ())))
        return LatentEncoder(tokenizer, encoder, self.config.reads, clip=self.config.clip, fps=self.config.fps)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The encoder's layers."""
        cell = cell_size(self.tokenizer)
        return [
            replace(info, reduction=tuple(a * b for a, b in zip(info.reduction, cell, strict=True)))
            for info in self.encoder.feature_info
        ]

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every layer."""
        yield from self.encoder.iter_features(self.cells_of(video))


def save_latent_encoder(
    encoder: VideoViT, folder: str | os.PathLike, config: LatentEncoderConfig, *, dtype: torch.dtype | None = None
) -> None:
    """Write an encoder over cells (in `dtype` if given), in the folder "encoder", with which tokenizer's they are, all
    or nothing."""
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as target:
        encoder.save_pretrained(target / ENCODER, dtype=dtype)
        values = {"_class_name": LatentEncoder.__name__, **asdict(config)}
        (target / CONFIG_NAME).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def read_latent_config(folder: Path) -> LatentEncoderConfig:
    """Return the config in a folder of a `LatentEncoder`. Raises VidgenError for another."""
    return config_from_dict(LatentEncoderConfig, read_config(folder), str(folder / CONFIG_NAME))
