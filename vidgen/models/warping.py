"""Moving an image by a field: frame(p) = image(p + field(p)), backward motion in pixels."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor


def spread(field: Float[Tensor, "n 2 k i j"], block: int) -> Float[Tensor, "n 2 k h w"]:
    """Return a vector a pixel from a vector a block, the same all over its block, as codecs move blocks."""
    return repeat(field, "n d k i j -> n d k (i p) (j q)", p=block, q=block)


def warp(image: Float[Tensor, "n c h w"], flow: Float[Tensor, "n 2 k h w"]) -> Float[Tensor, "n c k h w"]:
    """Return `k` frames: the image at p + flow(p), flow (x, y) in pixels, linear between pixels, the border repeated.

    Exactly the pixel where a vector is whole. Computed in float32 at least: bfloat16 cannot tell positions apart.
    """
    n, _, k, h, w = flow.shape
    wide = torch.promote_types(image.dtype, torch.float32)
    x = (torch.arange(w, device=flow.device, dtype=wide) + flow[:, 0].to(wide)).clamp(0, w - 1)
    y = (torch.arange(h, device=flow.device, dtype=wide)[:, None] + flow[:, 1].to(wide)).clamp(0, h - 1)
    left, top = x.detach().floor(), y.detach().floor()
    right, bottom = (left + 1).clamp(max=w - 1), (top + 1).clamp(max=h - 1)
    pixels = rearrange(image.to(wide), "n c h w -> n c (h w)")

    def take(row: Tensor, col: Tensor) -> Tensor:
        index = rearrange((row * w + col).long(), "n k h w -> n 1 (k h w)")
        values = pixels.gather(2, index.expand(-1, pixels.shape[1], -1))
        return rearrange(values, "n c (k h w) -> n c k h w", k=k, h=h)

    across, down = (part[:, None] for part in (x - left, y - top))
    upper = torch.lerp(take(top, left), take(top, right), across)
    lower = torch.lerp(take(bottom, left), take(bottom, right), across)
    return torch.lerp(upper, lower, down).to(image.dtype)
