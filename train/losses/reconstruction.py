"""Reconstruction losses of tokenizers: functions of the decoded clip and the original, 0 where they are equal."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.metrics.perceptual import FrameFeatures
from vidgen.train.config import TokenizerLossConfig
from vidgen.train.losses.perceptual import PerceptualLoss

CHARBONNIER_EPS = 1e-3
SSIM_WINDOW = 11  # side of the Gaussian window of SSIM
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
SMALL_SIMILARITY = 0.05


def l1(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """Return the mean absolute error."""
    return (x - y).abs().mean()


def l2(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """Return the mean squared error."""
    return (x - y).square().mean()


def gradient_l1(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """Return the mean absolute error of the differences of neighbors in time, height and width: edges and motion."""
    error = x - y
    parts = [error.diff(dim=d).abs().mean() for d in (2, 3, 4) if error.shape[d] > 1]
    return torch.stack(parts).mean() if parts else error.new_zeros(())


def charbonnier(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """Return the mean of sqrt(e^2 + eps^2) - eps, eps = 0.001: |e|, smooth at zero (Charbonnier et al. 1994)."""
    return ((x - y).square() + CHARBONNIER_EPS**2).sqrt().mean() - CHARBONNIER_EPS


def ssim_scales(side: int) -> int:
    """Return how many of MS-SSIM's five scales hold the window, for frames whose shorter side is `side` pixels."""
    return sum(side >> k >= SSIM_WINDOW for k in range(len(MS_SSIM_WEIGHTS)))


def lift(similarity: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return values above 0.05 as they are, and others by the exponential that goes on at the same slope, so above 0.

    Structure can be opposed, and what is below 0 has no power, at 0 an infinite slope, and clamped none.
    """
    below = SMALL_SIMILARITY * torch.exp((similarity - SMALL_SIMILARITY) / SMALL_SIMILARITY)
    return torch.where(similarity > SMALL_SIMILARITY, similarity, below)


def ms_ssim_loss(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """Return 1 - MS-SSIM, mean over frames (Wang et al. 2003, equation 7), pixels in [-1, 1].

    Five scales need a side of 176; smaller frames have as many as fit (44 pixels: three, 11: one, which is SSIM), with
    their weights brought back to a sum of one. Terms under 0.05 are lifted above 0, so that unlike frames have a slope.
    Each scale is torchmetrics' SSIM, in float32 whatever autocast says; its own multi-scale function refuses small
    frames, and where structure is opposed its gradients are infinite.
    Raises ValueError for frames with a side under 11.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    scales = ssim_scales(min(x.shape[-2:]))
    if scales == 0:
        raise ValueError(f"MS-SSIM needs frames of at least {SSIM_WINDOW}x{SSIM_WINDOW}, got {tuple(x.shape[-2:])}")
    weights = torch.tensor(MS_SSIM_WEIGHTS[:scales], device=x.device)
    with torch.autocast(x.device.type, enabled=False):
        a, b = (rearrange(v.float() * 0.5 + 0.5, "b c t h w -> (b t) c h w") for v in (x, y))
        terms = []
        for scale in range(scales):
            if scale > 0:
                a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
            similarity, structure = structural_similarity_index_measure(
                a, b, data_range=1.0, reduction="none", return_contrast_sensitivity=True
            )
            terms.append(similarity if scale + 1 == scales else structure)
        stacked = lift(torch.stack(terms))  # s n
        return 1.0 - stacked.pow(rearrange(weights / weights.sum(), "s -> s 1")).prod(dim=0).mean()


def halve(x: Float[Tensor, "b c t h w"], dim: int) -> tuple[Tensor, Tensor]:
    """Return Haar's step along one axis: means and half differences of neighbors. An odd length repeats one end.

    In time that is the first frame, which causal tokenizers code alone; in space the last row or column.
    """
    if x.shape[dim] % 2:
        end = x.narrow(dim, 0, 1) if dim == 2 else x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat([end, x] if dim == 2 else [x, end], dim=dim)
    even, odd = x.unflatten(dim, (-1, 2)).unbind(dim + 1)
    return (even + odd) / 2, (even - odd) / 2


def haar_bands(x: Float[Tensor, "b c t h w"], levels: int = 3) -> dict[str, Float[Tensor, "b c s i j"]]:
    """Return Haar subbands in units of the input: "thw" letters l (mean) or h (half difference) an axis, and the level.

    Levels after the first divide the all-mean band further, and only the last level keeps it: "lll3" of three levels.
    Axes of length one stay whole and are always l.
    """
    bands: dict[str, Tensor] = {}
    low = x
    for level in range(1, levels + 1):
        parts = {"": low}
        for dim in (2, 3, 4):
            if low.shape[dim] == 1:
                parts = {name + "l": band for name, band in parts.items()}
                continue
            halves = {name: halve(band, dim) for name, band in parts.items()}
            parts = {
                name + letter: band for name, pair in halves.items() for letter, band in zip("lh", pair, strict=True)
            }
        low = parts.pop("lll")
        bands |= {f"{name}{level}": band for name, band in parts.items()}
    return bands | {f"lll{levels}": low}


def wavelet_l1(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, ""]:
    """Return the mean over Haar subbands (three levels in time, height and width) of the mean absolute error in each.

    Fine bands have as much weight as coarse ones, however small the part of the energy in them.
    """
    return torch.stack([band.abs().mean() for band in haar_bands(x - y).values()]).mean()


# Names as in TokenizerLossConfig. The first three are always measured, for the log; others where their weight says so.
LOSSES = {
    "l1": l1,
    "l2": l2,
    "gradient": gradient_l1,
    "charbonnier": charbonnier,
    "ms_ssim": ms_ssim_loss,
    "wavelet": wavelet_l1,
}
ALWAYS = ("l1", "l2", "gradient")


class ReconstructionLoss:
    """The weighted sum of the losses that a recipe asks for. Raises VidgenError where one lacks its weights."""

    def __init__(self, weights: TokenizerLossConfig, device: str = "cpu") -> None:
        self.weights = weights
        self.losses = {k: f for k, f in LOSSES.items() if k in ALWAYS or getattr(weights, k) > 0}
        if weights.lpips > 0:
            self.losses["lpips"] = PerceptualLoss(weights.lpips_weights).to(device)
        if weights.features > 0:
            features = FrameFeatures().to(device)
            self.losses["features"] = lambda x, y: features(x, y).mean()

    def __call__(
        self, decoded: Float[Tensor, "b c t h w"], video: Float[Tensor, "b c t h w"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the total, and each loss before its weight."""
        parts = {name: loss(decoded, video) for name, loss in self.losses.items()}
        return sum(getattr(self.weights, name) * value for name, value in parts.items()), parts
