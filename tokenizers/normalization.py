"""Latents in units of the standard deviations that the data have, channel by channel."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


class LatentNormalization:
    """What a tokenizer with `latents_mean` and `latents_std` does to the latents that leave it and that come back."""

    latents_mean: Float[Tensor, " c"]
    latents_std: Float[Tensor, " c"]

    def normalize(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        return (z - per_channel(self.latents_mean, z)) / per_channel(self.latents_std, z)

    def denormalize(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        return z * per_channel(self.latents_std, z) + per_channel(self.latents_mean, z)


def per_channel(v: Float[Tensor, " c"], like: Tensor) -> Float[Tensor, "1 c 1 1 1"]:
    return v.to(like.dtype)[None, :, None, None, None]
