"""Reconstruction losses of tokenizers."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError

VGG16_FILE = "vgg16-397923af.pth"  # torchvision's name for its ImageNet weights


def gradient_l1(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """Mean absolute error of the differences between neighbours in time, height and width: edges and motion."""
    error = x - y
    parts = [error.diff(dim=d).abs().mean() for d in (2, 3, 4) if error.shape[d] > 1]
    return torch.stack(parts).mean() if parts else error.new_zeros(())


class PerceptualLoss(nn.Module):
    """LPIPS of frames (Zhang et al. 2018), on VGG-16 weights that torchvision has in its cache.

    Nothing is fetched: raises VidgenError where the weights are not there.
    """

    def __init__(self) -> None:
        super().__init__()
        import lpips

        cached = Path(torch.hub.get_dir()) / "checkpoints" / VGG16_FILE
        if not cached.is_file():
            raise VidgenError(f"loss.lpips needs VGG-16 weights at {cached}; put them there, or set loss.lpips=0")
        self.net = lpips.LPIPS(net="vgg", verbose=False).requires_grad_(False).eval()

    def forward(self, x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
        frames = (rearrange(v, "b c t h w -> (b t) c h w") for v in (x, y))
        return self.net(*frames).mean()
