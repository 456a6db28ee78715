"""Alignment: a denoiser's tokens are drawn to what a frozen encoder sees in the clip without noise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.heads.mlp import Projector
from vidgen.models.placement import dtype_of
from vidgen.pipelines.loading import load_feature_encoder
from vidgen.tokenizers.encoded import Encoded
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.config.alignment import AlignmentConfig
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.objectives.predictive import relation_distillation
from vidgen.train.tasks.ssl.resampling import cell_edges
from vidgen.train.tasks.ssl.targets import FeatureTarget


class Alignment(nn.Module):
    """The projection of a block's tokens, if any, and the frozen encoder. Raises VidgenError for a block or a layer
    that is not there."""

    def __init__(self, config: AlignmentConfig, transformer: VideoDiT, tokenizer: VideoTokenizer, device: str) -> None:
        super().__init__()
        if config.block >= len(transformer.blocks):
            raise VidgenError(
                f"alignment.block={config.block}: the denoiser has blocks 0 to {len(transformer.blocks) - 1}"
            )
        self.config = config
        self.frozen = {"tokenizer": tokenizer}  # in a dictionary: no checkpoint of the model holds it
        self.target = FeatureTarget(load_feature_encoder(config.source, device=device), config.layer)
        width, channels = transformer.config.width, self.target.info.num_chs
        self.projector = Projector(width, width, channels, layers=3, norm="none") if config.form == "tokens" else None
        self.to(device)

    @contextmanager
    def capture(self, transformer: VideoDiT) -> Iterator[list[Float[Tensor, "b t s d"]]]:
        """Within the block, passes of the denoiser leave the tokens of the config's block in the list."""
        tokens: list[Tensor] = []
        hook = transformer.blocks[self.config.block].register_forward_hook(
            lambda block, inputs, out: tokens.append(out)
        )
        try:
            yield tokens
        finally:
            hook.remove()

    def loss(self, tokens: Float[Tensor, "b t s d"], latents: Float[Tensor, "b c t h w"], grid: Grid) -> LossAndParts:
        """Return how far the tokens of clips, in patches `grid`, are from the encoder's features of these clips."""
        features = self.features(latents, grid)
        if self.projector is None:
            return relation_distillation(tokens, features, margin=self.config.margin)
        cosine = F.cosine_similarity(self.projector(tokens).float(), features, dim=-1).mean()
        return 1.0 - cosine, {"cosine": cosine.detach()}

    @torch.no_grad()
    def features(self, latents: Float[Tensor, "b c t h w"], grid: Grid) -> Float[Tensor, "b t s e"]:
        """Return the features of the clips of latents, at the patches of a grid."""
        tokenizer, (t, h, w) = self.frozen["tokenizer"], latents.shape[2:]
        ratio, side = tokenizer.config.temporal_compression_ratio, tokenizer.config.spatial_compression_ratio
        size = {"num_frames": 1 + (t - 1) * ratio, "height": h * side, "width": w * side}
        encoded = Encoded(latents=latents.to(dtype_of(tokenizer)), **size)
        video = tokenizer.decode(encoded).float().clamp(-1.0, 1.0)
        maps = self.target.maps_at(video, grid, cell_edges(grid[0], ratio, first_alone=True))
        return rearrange(maps, "b c t h w -> b t (h w) c")
