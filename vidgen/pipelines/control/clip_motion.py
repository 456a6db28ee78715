"""Noise that moves as a clip does: its motion by block matching, and the noise that a call starts from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.diffusion.noise import draw_per_sample
from vidgen.errors import VidgenError
from vidgen.models.warping import spread
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.control.motion_fields import MotionField, resize_field
from vidgen.samplers.control.noise_warp import warp_noise
from vidgen.tokenizers.keyframes.block_matching import match_blocks

BLOCK = 8  # pixels: the smallest thing whose motion is seen


def match_motion(video: UInt8[np.ndarray, "T h w 3"], block: int = BLOCK) -> MotionField:
    """Return where each pixel of a clip was in its first frame, a vector a block. Raises VidgenError for sides that are
    not whole blocks."""
    height, width = video.shape[1:3]
    if height % block or width % block:
        raise VidgenError(f"motion is seen in blocks of {block} pixels, and {height}x{width} is not whole ones")
    pixels = to_tensor(video)[None]
    moved = spread(match_blocks(pixels[:, :, 0], pixels[:, :, 1:], block), block)
    return torch.cat([torch.zeros_like(moved[:, :, :1]), moved], dim=2)


def clip_noise(
    pipe: VideoPipeline,
    video: UInt8[np.ndarray, "T h w 3"],
    generators: Sequence[torch.Generator],
    *,
    share: float = 1.0,
) -> Float[Tensor, "b c t h w"]:
    """Return the noise of clips of the video's size that follows its motion (Burgert et al. 2025, Go-with-the-Flow),
    for `latents` of the pipeline's call; `share` as of `warp_noise`.

    Raises VidgenError for a size that the model does not make.
    """
    shape = pipe.latent_shape(*video.shape[:3])
    config = pipe.vae.config
    field = resize_field(match_motion(video), config.temporal_compression_ratio, config.spatial_compression_ratio)
    return warp_noise(draw_per_sample(shape, generators), field, generators, share=share)
