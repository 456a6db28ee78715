"""Guidance: denoisers in, a denoiser out."""

from __future__ import annotations

import torch
from torch import Tensor

from vidgen.denoiser import Denoiser


def cfg(
    denoise_cond: Denoiser, denoise_uncond: Denoiser, scale: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoiser:
    """Classifier-free guidance, x0 = uncond + scale (cond - uncond) (Ho & Salimans 2022, eq. 6).

    Scale 1 is the conditional denoiser, which also runs alone at noise levels outside `interval` (Kynkaanniemi 2024).
    """
    if scale == 1.0:
        return denoise_cond
    low, high = interval

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        cond = denoise_cond(x, t)
        if not bool(torch.any((t >= low) & (t <= high))):
            return cond
        uncond = denoise_uncond(x, t)
        return uncond + scale * (cond - uncond)

    return denoise
