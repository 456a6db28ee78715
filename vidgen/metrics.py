"""Metrics of clips against clips."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

PSNR_CEILING = 100.0  # dB; equal clips have no finite PSNR, and means over clips must stay finite


def psnr(x: Float[Tensor, "b c t h w"], y: Float[Tensor, "b c t h w"]) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio of each clip in dB, pixels in [-1, 1] (peak 2): 10 log10(4 / MSE), at most 100."""
    mse = (x.double() - y.double()).square().flatten(1).mean(1)
    return (10.0 * torch.log10(4.0 / mse)).clamp(max=PSNR_CEILING)
