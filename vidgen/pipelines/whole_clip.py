"""Tokenizers of published autoencoders that are run through diffusers' own class, a clip in one go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.config_fields import ConfigMapping, renamed_field
from vidgen.deprecation import renamed_fields
from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureInfo
from vidgen.models.placement import PlacedModule
from vidgen.tokenizers.bottlenecks import Gaussian
from vidgen.tokenizers.encoded import Encoded, check_video, latent_size, pad_clip
from vidgen.tokenizers.mixin import TokenizerMixin, per_channel


@renamed_fields(ratio="spatial_compression_ratio", ratio_t="temporal_compression_ratio")
@dataclass(frozen=True, kw_only=True)
class WholeClipConfig(ConfigMapping):
    """What others may know of a tokenizer; `settings` are those of the published class."""

    name: str
    latent_channels: int
    temporal_compression_ratio: int = renamed_field("ratio_t")
    spatial_compression_ratio: int = renamed_field("ratio")
    settings: dict[str, Any]

    @staticmethod
    def named(family: str, **fields: Any) -> WholeClipConfig:
        """Return a config that is named for the family and the sizes, such as "ltx_8x32x32_128ch"."""
        t, s = fields["temporal_compression_ratio"], fields["spatial_compression_ratio"]
        return WholeClipConfig(name=f"{family}_{t}x{s}x{s}_{fields['latent_channels']}ch", **fields)


@dataclass(frozen=True, kw_only=True)
class PendingFrames:
    """State between chunks: all frames of the clip so far, which wait for the last ones."""

    frames: Float[Tensor, "b 3 k H W"]


class WholeClipTokenizer(TokenizerMixin, PlacedModule):
    """An autoencoder of diffusers with the tokenizers' interface: latents are normalized, T frames are
    1 + ceil((T - 1) / temporal_compression_ratio) latent frames.

    Height, width and the tail are padded by repeating the edge, and `decode` crops, as `VideoTokenizer` does it.
    """

    streams: ClassVar[bool] = False
    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, network: nn.Module, config: WholeClipConfig, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network, self.config = network, config
        self.register_buffer("latents_mean", mean)
        self.register_buffer("latents_std", std)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network."""
        return self.network.dtype

    def enable_tiling(self, **sizes: Any) -> None:
        """Switch the class's own tiling on, blended; `sizes` are its arguments."""
        self.network.enable_tiling(**sizes)

    def disable_tiling(self) -> None:
        """Switch the class's tiling off."""
        self.network.disable_tiling()

    def enable_slicing(self) -> None:
        """Run a batch clip by clip."""
        self.network.enable_slicing()

    def disable_slicing(self) -> None:
        """Run a batch as one."""
        self.network.disable_slicing()

    def frames_of(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
        """Return the 1 + (t - 1) temporal_compression_ratio frames of the class's own latents."""
        raise NotImplementedError

    def encode(
        self,
        video: Float[Tensor, "b 3 T H W"],
        *,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
    ) -> Encoded:
        """Return latents of a clip: the posterior's mode, or a draw from `generator` where `sample_posterior`.

        Raises VidgenError for another layout, no frames, NaN, or values outside [-1, 1].
        """
        check_video(video)
        c = self.config
        padded = pad_clip(video.to(self.dtype), c.temporal_compression_ratio, c.spatial_compression_ratio, 0)
        latents = self.network.encode(padded).latent_dist
        mean, logvar = self.widened(latents.mean), self.widened(latents.logvar)
        logvar = logvar - 2.0 * per_channel(self.latents_std, logvar).log()
        posterior = Gaussian(mean=self.normalize(mean).to(self.dtype), logvar=logvar.to(self.dtype))
        return Encoded(
            latents=posterior.sample(generator) if sample_posterior else posterior.mean,
            num_frames=video.shape[2],
            height=video.shape[3],
            width=video.shape[4],
            posterior=posterior,
        )

    def encode_chunk(
        self, video: Float[Tensor, "b 3 k H W"], state: PendingFrames | None = None, last: bool = False
    ) -> tuple[Float[Tensor, "b c t h w"], PendingFrames]:
        """Return no latents until `last`, then those of the whole clip, which is in memory until then."""
        frames = video if state is None else torch.cat([state.frames, video], dim=2)
        if last:
            return self.encode(frames).latents, PendingFrames(frames=frames[:, :, :0])
        size = latent_size(*frames.shape[3:], self.config.spatial_compression_ratio)
        empty = frames.new_zeros(len(frames), self.config.latent_channels, 0, *size)
        return empty, PendingFrames(frames=frames)

    def decode(self, encoded: Encoded, *, chunk_latents: int | None = None) -> Float[Tensor, "b 3 T H W"]:
        """Return the clip of `encoded`: the T frames, height and width that went in. `chunk_latents` has no effect."""
        self.check_latents(encoded)
        x, _ = self.decode_chunk(encoded.latents)
        return x[:, :, : encoded.num_frames, : encoded.height, : encoded.width]

    def decode_chunk(
        self, latents: Float[Tensor, "b c t h w"], state: None = None
    ) -> tuple[Float[Tensor, "b 3 F H W"], bool]:
        """Return all frames of a whole clip's latents, uncropped. Raises VidgenError for a state to go on from."""
        if state is not None:
            raise VidgenError(f"{self.config.name} decodes a clip in one go: give all of its latents at once")
        return self.frames_of(self.denormalize(self.widened(latents)).to(self.dtype)), True

    def widened(self, z: Tensor) -> Tensor:
        """Return latents in float32 or better: statistics are not rounded with the weights."""
        return z.to(torch.promote_types(self.dtype, torch.float32))

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The one layer, which is the latents."""
        c = self.config
        t, s = c.temporal_compression_ratio, c.spatial_compression_ratio
        info = {"num_chs": c.latent_channels, "reduction": (t, s, s), "module": "latent", "causal": False}
        return [FeatureInfo(name="latents", **info)]

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield the latents under the name of their layer."""
        yield "latents", self.encode(video).latents

    def fresh(self) -> WholeClipTokenizer:
        """Return the same architecture with new random weights."""
        network = type(self.network).from_config(self.network.config)
        return type(self)(network, self.config, self.latents_mean.clone(), self.latents_std.clone())
