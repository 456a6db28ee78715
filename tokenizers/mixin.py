"""The part of the Tokenizer Protocol that is the same for every network: statistics of latents, frame rule, checks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import latent_frames
from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureMixin
from vidgen.tokenizers.encoded import Encoded


class TokenizerMixin(FeatureMixin):
    """Normalization, frame rule and checks of a model with a `config`, `latents_mean` and `latents_std`."""

    latents_mean: Float[Tensor, " c"]
    latents_std: Float[Tensor, " c"]

    @property
    def device(self) -> torch.device:
        """The device of the latents."""
        return self.latents_mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the latents. Encoder and decoder run each in the precision of its own weights: after
        `tokenizer.decoder.float()`, what is encoded in bfloat16 is decoded in float32."""
        return self.latents_mean.dtype

    def latent_frames(self, num_frames: int) -> int:
        """Return how many latent frames hold a clip: t = 1 + ceil((T - 1) / temporal_compression_ratio)."""
        return latent_frames(num_frames, self.config.temporal_compression_ratio)

    def normalize(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return the bottleneck's latents with mean 0 and standard deviation 1, channel by channel."""
        return normalize(z, self.latents_mean, self.latents_std)

    def denormalize(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return the bottleneck's latents of normalized ones: the inverse of `normalize`."""
        return denormalize(z, self.latents_mean, self.latents_std)

    def check_latents(self, encoded: Encoded) -> None:
        """Raise VidgenError unless the latents have the channels and the latent frames that the clip needs."""
        z = encoded.latents
        channels = self.config.latent_channels
        expected = self.latent_frames(encoded.num_frames)
        if z.shape[1] != channels or z.shape[2] != expected:
            raise VidgenError(
                f"latents {tuple(z.shape)} do not hold {encoded.num_frames} frames: "
                f"{self.config.name} needs {channels} channels and {expected} latent frames"
            )

    def forward(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 3 T H W"]:
        """Return decode(encode(video))."""
        return self.decode(self.encode(video))


def per_channel(values: Float[Tensor, " c"], like: Tensor) -> Float[Tensor, "1 c 1 1 1"]:
    """Return one value a channel, in the dtype of `like` and shaped to be combined with it."""
    return values.to(like.dtype)[None, :, None, None, None]


def normalize(z: Float[Tensor, "b c t h w"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> Tensor:
    """Return (z - mean) / std, channel by channel."""
    return (z - per_channel(mean, z)) / per_channel(std, z)


def denormalize(z: Float[Tensor, "b c t h w"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> Tensor:
    """Return z * std + mean, channel by channel: the inverse of `normalize`."""
    return z * per_channel(std, z) + per_channel(mean, z)
