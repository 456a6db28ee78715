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
from vidgen.tokenizers.encoded import Encoded
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.train.config.alignment import AlignmentConfig
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.objectives.predictive import relation_distillation
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
        self.target = FeatureTarget(config.source, config.layer, device)
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
        step = self.target.info.reduction[0]
        filled = torch.cat([video, video[:, :, -1:].expand(-1, -1, -video.shape[2] % step, -1, -1)], dim=2)
        maps = self.target.maps(filled)
        shares = frame_shares(maps.shape[2], step, video.shape[2], ratio)
        maps = torch.einsum("kj,bcjhw->bckhw", shares[: grid[0]].to(maps), maps)
        maps = F.interpolate(maps, size=grid, mode="trilinear", align_corners=False)
        return rearrange(maps, "b c t h w -> b t (h w) c")


def frame_shares(maps: int, step: int, frames: int, ratio: int) -> Float[Tensor, "k j"]:
    """Return which mean of an encoder's maps, each of `step` frames, each latent frame has: by how many frames they
    have in common. The first latent frame is one frame, each later one `ratio`."""
    count = 1 + -(-(frames - 1) // ratio)
    starts = torch.tensor([0, *(1 + ratio * k for k in range(count - 1))], dtype=torch.float32)
    stops = torch.tensor([1 + ratio * k for k in range(count)], dtype=torch.float32).clamp(max=frames)
    first = step * torch.arange(maps, dtype=torch.float32)
    common = torch.minimum(stops[:, None], first + step) - torch.maximum(starts[:, None], first)
    common = common.clamp(min=0.0)
    return common / common.sum(1, keepdim=True)
