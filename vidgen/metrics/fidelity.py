"""Fidelity of frames: PSNR, SSIM and MS-SSIM, for pixels in [-1, 1]."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

PSNR_CEILING = 100.0  # dB; equal clips have no finite PSNR, and means over clips must stay finite
SSIM_SMALLEST = 11  # the side of its Gaussian window
MS_SSIM_SMALLEST = 176  # the window must fit into the fifth scale: (side // 16) > 10


def decibels(mse: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return the PSNR of mean squared errors, 10 log10(4 / MSE), at most 100 dB; pixels in [-1, 1] have a peak of 2."""
    return (10.0 * torch.log10(4.0 / mse)).clamp(max=PSNR_CEILING)


def psnr(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, " b"]:
    """Return the peak signal-to-noise ratio of each clip in dB, pixels in [-1, 1] (peak 2): 10 log10(4 / MSE), at most
    100."""
    return decibels((x.double() - y.double()).square().flatten(1).mean(1))


def ssim(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t"]:
    """Return the structural similarity of each frame, mean over colours (Wang et al. 2004, equation 13; Gaussian
    11x11).

    Pixels are brought to [0, 1] first: around zero the luminance term would say nothing. Frames are reflected at the
    border and all positions count (scikit-image, which some peers report, leaves the border out).
    Raises ValueError for frames smaller than 11x11.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    check_side(x, SSIM_SMALLEST, "SSIM")
    a, b = _frames(x), _frames(y)
    values = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return rearrange(values, "(b t) -> b t", b=x.shape[0])


def ms_ssim(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t"]:
    """Return the multi-scale structural similarity of each frame (Wang et al. 2003, equation 7; five scales, their
    weights).

    Raises ValueError for frames with a side under 176, where the window does not fit into the fifth scale.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    check_side(x, MS_SSIM_SMALLEST, "MS-SSIM")
    a, b = _frames(x), _frames(y)
    values = multiscale_structural_similarity_index_measure(a, b, data_range=1.0, reduction="none")
    return rearrange(values, "(b t) -> b t", b=x.shape[0])


def check_side(x: Tensor, smallest: int, what: str) -> None:
    """Raise ValueError if the frames' shorter side is under `smallest` pixels."""
    if min(x.shape[-2:]) < smallest:
        raise ValueError(f"{what} needs frames of at least {smallest}x{smallest}, got {x.shape[-2]}x{x.shape[-1]}")


def _frames(x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "bt c h w"]:
    return rearrange(x.float() * 0.5 + 0.5, "b c t h w -> (b t) c h w")
