"""Perceptual distances of frames, where the weights of their networks are here; nothing is fetched."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.metrics.fidelity import check_side
from vidgen.models.encoders.efficientnet import load_efficientnet

# lpips' name of a network -> torchvision's file of its ImageNet weights; the first that is there is taken. VGG-16 is
# what most tables of video tokenizers use.
NETWORKS = {
    "vgg": "vgg16-397923af.pth",
    "alex": "alexnet-owt-7be5be79.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
FEATURES_SMALLEST = 32  # pixels: one position of the deepest layer
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


class FrameFeatures(nn.Module):
    """Distance of each frame in the layers of EfficientNet-lite0, on ImageNet's weights.

    That of Zhang et al. 2018 (equation 1) with all channels weighed alike: in each layer features have unit length at
    each position, and their squared difference is averaged over positions, then over layers. Frames keep their size.
    Raises VidgenError where the package of the weights is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        encoder = load_efficientnet()
        self.network = encoder.network.to(memory_format=torch.channels_last)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(encoder.config.processor[name]).view(1, 3, 1, 1))

    def features(self, x: Float[Tensor, "b c t h w"]) -> list[Float[Tensor, "n d i j"]]:
        """Return the features of each layer, of unit length at each position."""
        frames = rearrange(x, "b c t h w -> (b t) c h w")
        pixels = ((frames * 0.5 + 0.5 - self.mean) / self.std).to(memory_format=torch.channels_last)
        maps = self.network.forward_intermediates(pixels, intermediates_only=True)
        return [F.normalize(m.float(), dim=1, eps=1e-6) for m in maps]

    def forward(self, x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t"]:
        """Return the distances of frames in [-1, 1], 0 for equal ones. Raises ValueError for less than 32x32 pixels."""
        check_side(x, FEATURES_SMALLEST, "features")
        pairs = zip(self.features(x), self.features(y), strict=True)
        layers = [(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]
        return rearrange(torch.stack(layers).mean(0), "(b t) -> b t", b=len(x))


def find_perceptual(device: str = "cpu") -> tuple[dict[str, nn.Module], dict[str, str], str | None]:
    """Return the perceptual metrics whose weights are here, why others are not there, and the network of LPIPS."""
    lpips, name = find_lpips(device)
    metrics: dict[str, nn.Module] = {} if lpips is None else {"lpips": lpips}
    reasons = {"lpips": name} if lpips is None else {}
    try:
        metrics["features"] = FrameFeatures().to(device)
    except VidgenError as error:
        reasons["features"] = str(error)
    return metrics, reasons, None if lpips is None else name


def find_lpips(device: str = "cpu") -> tuple[FrameLPIPS | None, str]:
    """Return the metric and the name of its network; or None and the reason, where no network's weights are there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name, file in NETWORKS.items():
        if (folder / file).is_file():
            return FrameLPIPS(name).to(device), name
    return None, f"no weights: put {NETWORKS['vgg']} of torchvision into its cache folder (checkpoints of torch.hub)"
