"""A light scorer that chooses, in one step, the frames of a clip that an encoder reads."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.models.attention_patterns import Grid

SIDE = 8  # rows and columns of the thumbnails that are scored
HIDDEN = 64


class FrameSelector(nn.Module):
    """Scores of frames (of tubes, where patches are several frames deep) from thumbnails and how they change, each seen
    beside the mean of the clip (after Lin et al. 2022, OCSampler, section 3.2: the policy is one step, from a skim).

    Args:
        channels: Of a pixel or latent cell.
        depth: Frames of a tube.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.skim_in = nn.Linear(2 * channels * SIDE**2, HIDDEN)
        self.mix = nn.Linear(2 * HIDDEN, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1)

    def forward(self, video: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b t"]:
        """Return the score of every frame of tubes."""
        frames = F.adaptive_avg_pool3d(video.to(self.score.weight.dtype), (video.shape[2] // self.depth, SIDE, SIDE))
        frames = rearrange(frames, "b c t h w -> b t (c h w)")
        change = torch.cat([torch.zeros_like(frames[:, :1]), frames.diff(dim=1)], dim=1)
        skim = F.gelu(self.skim_in(torch.cat([frames, change], dim=-1)))
        around = skim.mean(1, keepdim=True).expand_as(skim)
        return self.score(F.gelu(self.mix(torch.cat([skim, around], dim=-1))))[..., 0]

    def choose(self, video: Float[Tensor, "b c T H W"], count: int) -> Int[Tensor, "b k"]:
        """Return the frames of the highest scores, in order; all of them, if they are not more."""
        scores = self(video)
        return scores.topk(min(count, scores.shape[1]), dim=1).indices.sort(dim=1).values


def places_of_frames(frames: Int[Tensor, "b k"], grid: Grid) -> Int[Tensor, "b m"]:
    """Return the places of all tokens of these frames of a grid, in the frames' order."""
    _, h, w = grid
    cells = torch.arange(h * w, device=frames.device)
    return (frames[:, :, None] * (h * w) + cells).flatten(1)
