"""Published autoencoders through diffusers' own classes: CogVideoX's and LTX-Video's, a clip in one go.

Neither can be streamed with the whole-clip result. CogVideoX's group norms take their mean over the frames that are in
memory together, and how the class cuts a clip depends on its length. LTX-Video's decoder looks at later frames.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.config_fields import renamed_field
from vidgen.checkpoints.drafts import draft_diffusers, plain_settings
from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureInfo
from vidgen.tokenizers.bottlenecks import Gaussian
from vidgen.tokenizers.mixin import TokenizerMixin, per_channel
from vidgen.tokenizers.model import Encoded, check_video, pad_clip

COGVIDEOX, LTX = "AutoencoderKLCogVideoX", "AutoencoderKLLTXVideo"
DECODE_SEED = 0  # of the noise that some of LTX-Video's decoders add inside: the same latents give the same frames


@dataclass(frozen=True, kw_only=True)
class WholeClipConfig:
    """What is asked of a tokenizer from outside; `settings` are those of the published class."""

    name: str
    latent_channels: int
    temporal_compression_ratio: int = renamed_field("ratio_t")
    spatial_compression_ratio: int = renamed_field("ratio")
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Between chunks: all frames of the clip so far, which wait for the last ones."""

    frames: Float[Tensor, "b 3 k H W"]


class WholeClipTokenizer(TokenizerMixin, nn.Module):
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
        return self.network.dtype

    def frames_of(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
        """The 1 + (t - 1) temporal_compression_ratio frames of the class's own latents."""
        raise NotImplementedError

    def encode(
        self,
        video: Float[Tensor, "b 3 T H W"],
        *,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
    ) -> Encoded:
        """Latents of a clip: the posterior's mode, or a draw from `generator` where `sample_posterior`.

        Raises VidgenError for another layout, no frames, NaN, or values outside [-1, 1].
        """
        check_video(video)
        padded = pad_clip(
            video.to(self.dtype), self.config.temporal_compression_ratio, self.config.spatial_compression_ratio, 0
        )
        found = self.network.encode(padded).latent_dist
        mean, logvar = self.widened(found.mean), self.widened(found.logvar)
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
        self, video: Float[Tensor, "b 3 k H W"], state: Waiting | None = None, last: bool = False
    ) -> tuple[Float[Tensor, "b c t h w"], Waiting]:
        """No latents until `last`, then those of the whole clip, which is in memory until then."""
        frames = video if state is None else torch.cat([state.frames, video], dim=2)
        if last:
            return self.encode(frames).latents, Waiting(frames=frames[:, :, :0])
        f = self.config.spatial_compression_ratio
        empty = frames.new_zeros(
            len(frames), self.config.latent_channels, 0, -(-frames.shape[3] // f), -(-frames.shape[4] // f)
        )
        return empty, Waiting(frames=frames)

    def decode(self, encoded: Encoded, *, chunk_latents: int | None = None) -> Float[Tensor, "b 3 T H W"]:
        """Return the clip of `encoded`: the T frames, height and width that went in. `chunk_latents` has no effect."""
        self.check_latents(encoded)
        x, _ = self.decode_chunk(encoded.latents)
        return x[:, :, : encoded.num_frames, : encoded.height, : encoded.width]

    def decode_chunk(
        self, latents: Float[Tensor, "b c t h w"], state: None = None
    ) -> tuple[Float[Tensor, "b 3 F H W"], bool]:
        """All frames of a whole clip's latents, uncropped. Raises VidgenError where it is to go on from a state."""
        if state is not None:
            raise VidgenError(f"{self.config.name} decodes a clip in one go: give all of its latents at once")
        return self.frames_of(self.denormalize(self.widened(latents)).to(self.dtype)), True

    def widened(self, z: Tensor) -> Tensor:
        """In float32 or better: statistics are not rounded with the weights."""
        return z.to(torch.promote_types(self.dtype, torch.float32))

    @property
    def feature_info(self) -> list[FeatureInfo]:
        c = self.config
        stride = (c.temporal_compression_ratio, c.spatial_compression_ratio, c.spatial_compression_ratio)
        return [FeatureInfo(name="latents", num_chs=c.latent_channels, reduction=stride, module="latent", causal=False)]

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """The latents under the name of their layer."""
        yield "latents", self.encode(video).latents

    def fresh(self) -> WholeClipTokenizer:
        """The same architecture with new random weights."""
        network = type(self.network).from_config(self.network.config)
        return type(self)(network, self.config, self.latents_mean.clone(), self.latents_std.clone())


class CogVideoXTokenizer(WholeClipTokenizer):
    """AutoencoderKLCogVideoX. The class decodes pairs of latent frames after the first one; where one is left over, it
    is repeated, and what that adds is cut off."""

    def frames_of(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
        odd = torch.cat([z, z[:, :, -1:]], dim=2) if z.shape[2] % 2 == 0 else z
        return self.network.decode(odd).sample[:, :, : 1 + (z.shape[2] - 1) * self.config.temporal_compression_ratio]


class LTXTokenizer(WholeClipTokenizer):
    """AutoencoderKLLTXVideo. Decoders that take a noise level of their latents are told `decode_level`, 0 as in
    diffusers' pipeline unless set; nothing is added to the latents."""

    decode_level = 0.0

    def frames_of(self, z: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b 3 T H W"]:
        told = self.network.config.timestep_conditioning
        level = z.new_full((len(z),), self.decode_level) if told else None
        with seeded(z.device):
            return self.network.decode(z, level).sample


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Torch's own random numbers from `DECODE_SEED` on, and afterwards from where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(DECODE_SEED)
        yield


def read_cogvideox(
    place: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> CogVideoXTokenizer:
    """The tokenizer of an AutoencoderKLCogVideoX. Raises VidgenError, before a tensor is read, if it does not fit."""
    from diffusers import AutoencoderKLCogVideoX

    draft = draft_diffusers(AutoencoderKLCogVideoX, Path(place))
    c = draft.network.config
    if c.shift_factor is not None or c.latents_mean is not None or c.latents_std is not None:
        raise VidgenError(f"{place}: {COGVIDEOX} with a shift or statistics of its latents is not supported")
    size = {"latent_channels": c.latent_channels, "temporal_compression_ratio": int(c.temporal_compression_ratio)}
    config = make_config("cogvideox", size, 2 ** (len(c.block_out_channels) - 1), c)
    network = draft.fill(dtype=dtype, device=device)
    std = torch.full((c.latent_channels,), 1.0 / c.scaling_factor, device=device)
    return CogVideoXTokenizer(network, config, torch.zeros_like(std), std)


def read_ltx(place: str | os.PathLike, *, dtype: torch.dtype | None = None, device: str = "cpu") -> LTXTokenizer:
    """The tokenizer of an AutoencoderKLLTXVideo. Raises VidgenError, before a tensor is read, if it does not fit."""
    from diffusers import AutoencoderKLLTXVideo

    draft = draft_diffusers(AutoencoderKLLTXVideo, Path(place))
    c = draft.network.config
    size = {
        "latent_channels": c.latent_channels,
        "temporal_compression_ratio": draft.network.temporal_compression_ratio,
    }
    config = make_config("ltx", size, draft.network.spatial_compression_ratio, c)
    network = draft.fill(dtype=dtype, device=device)
    mean, std = network.latents_mean.float(), network.latents_std.float()
    return LTXTokenizer(network, config, mean, std / c.scaling_factor)


def make_config(family: str, size: dict[str, int], ratio: int, settings: Any) -> WholeClipConfig:
    name = f"{family}_{size['temporal_compression_ratio']}x{ratio}x{ratio}_{size['latent_channels']}ch"
    return WholeClipConfig(name=name, **size, spatial_compression_ratio=ratio, settings=plain_settings(settings))
