"""LPIPS of frames, where the weights of its network lie in torchvision's cache; nothing is fetched."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.metrics.fidelity import check_side

# lpips' name of a network -> torchvision's file of its ImageNet weights; the first that is there is taken. VGG-16 is
# what most tables of video tokenizers use.
NETWORKS = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
LPIPS_SMALLEST = 64  # pixels: under that the deepest layers have next to no positions left


class FrameLPIPS(nn.Module):
    """Learned perceptual distance of each frame (Zhang et al. 2018, equation 1); `name` says on which network."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import lpips

        self.name = name
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # lpips uses an old form of torchvision's
            self.net = lpips.LPIPS(net=name, verbose=False).requires_grad_(False).eval()

    @torch.inference_mode()
    def forward(self, x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t"]:
        """Return the distances of frames in [-1, 1], 0 for equal ones. Raises ValueError for less than 64x64 pixels."""
        check_side(x, LPIPS_SMALLEST, "LPIPS")
        frames = (rearrange(v.float(), "b c t h w -> (b t) c h w") for v in (x, y))
        return rearrange(self.net(*frames), "(b t) 1 1 1 -> b t", b=x.shape[0])


def find_lpips(device: str = "cpu") -> tuple[FrameLPIPS | None, str]:
    """Return the metric and the name of its network; or None and the reason, where no network's weights are there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name, file in NETWORKS.items():
        if (folder / file).is_file():
            return FrameLPIPS(name).to(device), name
    return None, f"no weights: put {NETWORKS['vgg']} of torchvision into its cache folder (checkpoints of torch.hub)"
