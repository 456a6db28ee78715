"""Cycles: from a part of a clip to what is nearest to it and back, by way of clips or of time."""

from __future__ import annotations

from dataclasses import asdict

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.heads.mlp import Projector
from vidgen.train.config.correspondence import CycleTermConfig, WalkTermConfig
from vidgen.train.config.self_supervised import ProjectorConfig, SSLRecipe
from vidgen.train.objectives.contrastive import check_batch, cycle_contrastive
from vidgen.train.objectives.correspondence import palindrome_walk
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.ssl.term import (
    ClipBatch,
    Term,
    batch_generator,
    cut_segments,
    embed_each,
    make_views,
    segment_frames,
    unit_of,
    whole_batch,
)
from vidgen.train.views.clips import draw_view


class CycleTerm(Term):
    """Segments that are encoded alone and whole clips: the clip nearest to a segment is nearest to segments of the same
    clip (Kong et al. 2020, CCL).

    Raises VidgenError for one clip in a batch, and for views or segments that do not fit.
    """

    def __init__(self, config: CycleTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        check_batch(recipe.batch_size)
        self.config, self.frames = config, segment_frames(config.frames, encoder)
        (self.view,) = make_views([config.view], encoder, recipe)
        if (count := self.view.length(encoder.config.clip[0])) < 2 * self.frames:
            raise VidgenError(f"a view of {count} {unit_of(recipe)} has less than two segments of {self.frames}")
        shape = asdict(config_from_dict(ProjectorConfig, config.projector, "projector"))
        self.projectors = nn.ModuleList([Projector(encoder.config.width, **shape) for _ in range(2)])

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch."""
        view = draw_view(self.view, batch.video, generator)
        segments, clips = self.projectors
        frames = segments(whole_batch(self, embed_each(encoder, cut_segments(view, self.frames))))
        videos = clips(whole_batch(self, embed_each(encoder, view)))
        return cycle_contrastive(frames, videos, temperature=self.config.temperature)


def cut_nodes(segments: Float[Tensor, "b s c t H W"], side: tuple[int, int]) -> Float[Tensor, "b s n c t h w"]:
    """Return squares of (h, w) pixels of each segment, at half their side's distance, row by row."""
    windows = segments.unfold(4, side[0], side[0] // 2).unfold(5, side[1], side[1] // 2)
    return rearrange(windows, "b s c t y x h w -> b s (y x) c t h w")


class WalkTerm(Term):
    """Squares of a clip's frames, each encoded alone so that its place says nothing, are nodes of a walk over time and
    back that is to end where it began (Jabri et al. 2020).

    Raises VidgenError for clips of one segment, and for squares that do not fit in the frames twice.
    """

    def __init__(self, config: WalkTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.config, (self.frames, h, w) = config, encoder.config.patch
        self.side = (config.node * h, config.node * w)
        frames, *size = encoder.config.clip
        if frames < 2 * self.frames:
            raise VidgenError(f"a clip of {frames} {unit_of(recipe)} has no later segment of {self.frames}")
        if min(self.side) < 2 or any(2 * n < 3 * side for n, side in zip(size, self.side, strict=True)):
            raise VidgenError(
                f"nodes of {self.side} are not to be found twice in frames of {tuple(size)}; lower node, or the "
                "encoder's patch"
            )
        shape = config_from_dict(ProjectorConfig, {"layers": 1} | config.projector, "projector")
        self.projector = Projector(encoder.config.width, **asdict(shape))

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch."""
        nodes = cut_nodes(cut_segments(batch.video, self.frames), self.side)
        settings = {"temperature": self.config.temperature, "dropout": self.config.dropout if self.training else 0.0}
        rows = whole_batch(self, embed_each(encoder, nodes))  # a walk is of one clip, batch norm is not
        return palindrome_walk(self.projector(rows), generator=batch_generator(self, generator), **settings)
