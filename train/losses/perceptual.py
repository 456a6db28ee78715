"""LPIPS as a loss, on weights that are here already."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError

VGG16_FILE = "vgg16-397923af.pth"  # torchvision's name for its ImageNet weights
VGG16_WIDTHS = {  # place among the layers -> channels
    **{0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256},
    **{17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512},
}
VGG16_SHAPES = {
    f"{layer}.weight": (width, before, 3, 3)
    for (layer, width), before in zip(VGG16_WIDTHS.items(), [3, *VGG16_WIDTHS.values()], strict=False)
}


def read_vgg16(path: Path) -> dict[str, Tensor]:
    """Return the convolutions of torchvision's VGG-16 by name. Raises VidgenError if the file is something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        weights = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    except Exception as error:  # torch.load raises whatever the damage leads it to
        raise VidgenError(f"{path} cannot be read ({' '.join(str(error).split())[:120]}); name another file") from None
    if {k: tuple(v.shape) for k, v in weights.items() if k.endswith("weight")} != VGG16_SHAPES:
        raise VidgenError(f"{path} does not hold torchvision's VGG-16, which loss.lpips needs; name another file")
    return weights


class PerceptualLoss(nn.Module):
    """LPIPS of frames (Zhang et al. 2018), on VGG-16's ImageNet weights: of torchvision's cache, or a file of them.

    Nothing is fetched: raises VidgenError, with what to train on instead, where the weights are not there.
    """

    def __init__(self, weights: str = "") -> None:
        super().__init__()
        import lpips

        path = Path(weights) if weights else Path(torch.hub.get_dir()) / "checkpoints" / VGG16_FILE
        if not path.is_file():
            raise VidgenError(
                f"loss.lpips needs torchvision's VGG-16 weights at {path}: put them there, name a file in "
                "loss.lpips_weights, or go without: loss.lpips=0 loss.ms_ssim=0.5 loss.gradient=0.5 loss.wavelet=1 "
                "(as recipe tokenizer_offline)"
            )
        state = read_vgg16(path)
        self.net = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).requires_grad_(False).eval()
        for part in self.net.net.children():
            for number, layer in part.named_children():
                for name, parameter in layer.named_parameters():
                    parameter.data.copy_(state[f"{number}.{name}"])

    def forward(self, x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
        """Return the mean LPIPS over frames, pixels in [-1, 1]."""
        frames = (rearrange(v, "b c t h w -> (b t) c h w") for v in (x, y))
        return self.net(*frames).mean()
