"""VideoTokenizer: a causal autoencoder that returns the frames it was given, whole or in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.checkpoints.finite import check_output
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.tokenizers.backbones.convolutional import FrontEnd
from vidgen.tokenizers.backbones.convolutions import Stream, initialize, name_layers
from vidgen.tokenizers.backbones.registry import BACKBONES
from vidgen.tokenizers.bottlenecks import BottleneckOutput, Gaussian, Quantizer
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.tokenizers.feature_layers import encoding_feature_info
from vidgen.tokenizers.normalization import LatentNormalization, per_channel


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A clip as latents, with what decoding needs to give back exactly the frames that went in."""

    latents: Float[Tensor, "b c t h w"]
    num_frames: int
    height: int
    width: int
    indices: Int[Tensor, "b t h w"] | Int[Tensor, "b t h w q"] | None = None
    posterior: Gaussian | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """What one chunk hands to the next: context of every causal layer, and frames that do not fill a latent yet."""

    cache: dict[str, Tensor]
    pending: Float[Tensor, "b c p H W"] | None = None


class VideoTokenizer(LatentNormalization, FeatureMixin, Pretrained):
    """Causal video autoencoder on pixels (b, 3, T, H, W) in [-1, 1] and latents (b, c, t, h, w), normalized.

    t = 1 + ceil((T - 1) / temporal_compression_ratio): the first frame has a latent of its own (it stands `temporal_compression_ratio` times in its patch,
    or once in Wan's backbone), each later latent holds `temporal_compression_ratio` frames, the tail repeats the last frame. Height and
    width are padded on the lower right by repeating the edge, and `decode` crops. Norms never mix time, so any split
    into chunks gives the whole-clip result (the causal design of Yu et al. 2024, MAGVIT-v2, section 3.2).
    """

    config_class = TokenizerConfig
    streams: ClassVar[bool] = True
    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config)
        c = config.latent_channels
        patch_channels = 3 * config.patch_t * config.patch**2
        self.front_end = FrontEnd(config.front_end, config.patch_t, config.patch)
        self.bottleneck = config.build_bottleneck()
        build = BACKBONES[config.backbone]
        self.encoder, self.decoder = build(config, patch_channels, self.bottleneck.channels_in)
        self.register_buffer("latents_mean", torch.zeros(c))
        self.register_buffer("latents_std", torch.ones(c))
        initialize(self)
        with torch.no_grad():  # the first reconstruction is nearly grey
            for layer in self.decoder.out.children():
                if isinstance(layer, nn.Conv3d):
                    layer.weight.mul_(0.1)
        name_layers(self)
        self.to(memory_format=torch.channels_last_3d)

    @property
    def dtype(self) -> torch.dtype:
        """Of the latents. Encoder and decoder run each in the precision of its own weights: after
        `tokenizer.decoder.float()`, what is encoded in bfloat16 is decoded in float32."""
        return self.latents_mean.dtype

    # Encoding

    def encode(
        self,
        video: Float[Tensor, "b 3 T H W"],
        *,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
        chunk_frames: int | None = None,
    ) -> Encoded:
        """Latents of a clip: the posterior's mode, or a draw from `generator` where `sample_posterior`.

        `generator` also gives what a codebook draws while it learns, in training mode.
        `chunk_frames` bounds the activations in memory to those of that many frames; the result is the same.
        Raises VidgenError for another layout, no frames, NaN, or values outside [-1, 1].
        """
        check_video(video)
        hidden, state = [], None
        chunks = video.split(chunk_frames or video.shape[2], dim=2)
        for i, chunk in enumerate(chunks):
            h, state = self._encode_hidden(chunk, state, last=i + 1 == len(chunks))
            hidden.append(h)
        out = self.bottleneck(torch.cat(hidden, dim=2), sample=sample_posterior, generator=generator)
        return Encoded(
            latents=self.normalize(out.latents),
            num_frames=video.shape[2],
            height=video.shape[3],
            width=video.shape[4],
            indices=out.indices,
            posterior=self._normalize_posterior(out),
            losses=out.losses,
        )

    def encode_chunk(
        self, video: Float[Tensor, "b 3 k H W"], state: StreamState | None = None, last: bool = False
    ) -> tuple[Float[Tensor, "b c t h w"], StreamState]:
        """The latents that these frames complete (perhaps none), and the state for the next chunk.

        `state` None starts a clip; `last` pads the tail by repeating the last frame. Any number of frames, none
        included once a clip has started.
        """
        if state is None or video.shape[2] > 0:
            check_video(video)
        hidden, state = self._encode_hidden(video, state, last)
        return self.normalize(self.bottleneck(hidden).latents), state

    def _encode_hidden(self, video: Tensor, state: StreamState | None, last: bool) -> tuple[Tensor, StreamState]:
        """The bottleneck's input (b, d, t, h, w) for the latents that are complete with these frames."""
        n, f, lead = self.config.temporal_compression_ratio, self.config.spatial_compression_ratio, self.config.lead
        frames, absent = pad_space(video.to(dtype_of(self.encoder)), f), 0
        if state is None:
            state = StreamState(cache={})
            absent = n - 1 - lead  # of the first latent's frames, those that are not even made up
            if lead:
                frames = torch.cat([frames[:, :, :1].expand(-1, -1, lead, -1, -1), frames], dim=2)
        elif state.pending is not None:
            frames = torch.cat([state.pending, frames], dim=2)
        short = -(frames.shape[2] + absent) % n
        if last and short:
            frames = torch.cat([frames, frames[:, :, -1:].expand(-1, -1, short, -1, -1)], dim=2)
        ready = (frames.shape[2] + absent) // n * n - absent
        pending = frames[:, :, ready:].clone() if ready < frames.shape[2] else None
        if ready == 0:
            b, _, _, h, w = frames.shape
            none = frames.new_zeros(b, self.bottleneck.channels_in, 0, h // f, w // f, dtype=self.dtype)
            return none, StreamState(cache=state.cache, pending=pending)
        stream = Stream(past=state.cache)
        x = self.front_end(frames[:, :, :ready]).contiguous(memory_format=torch.channels_last_3d)
        hidden = self._checked("encoder", x, self.encoder(x, stream), state).to(self.dtype)
        return hidden, StreamState(cache=stream.next, pending=pending)

    # Decoding

    def decode(self, encoded: Encoded, *, chunk_latents: int | None = None) -> Float[Tensor, "b 3 T H W"]:
        """The clip of `encoded`: the T frames, height and width that went in."""
        z, frames, state = encoded.latents, [], None
        expected = 1 + -(-(encoded.num_frames - 1) // self.config.temporal_compression_ratio)
        if z.shape[1] != self.config.latent_channels or z.shape[2] != expected:
            raise VidgenError(
                f"latents {tuple(z.shape)} do not hold {encoded.num_frames} frames: "
                f"{self.config.name} needs {self.config.latent_channels} channels and {expected} latent frames"
            )
        for chunk in z.split(chunk_latents or z.shape[2], dim=2):
            x, state = self.decode_chunk(chunk, state)
            frames.append(x[..., : encoded.height, : encoded.width])
        return torch.cat(frames, dim=2)[:, :, : encoded.num_frames]

    def decode_chunk(
        self, latents: Float[Tensor, "b c k h w"], state: StreamState | None = None
    ) -> tuple[Float[Tensor, "b 3 F H W"], StreamState]:
        """Frames of these latents: 1 for a clip's first latent, `temporal_compression_ratio` for each later one, uncropped."""
        stream = Stream(past=state.cache if state else {})
        z = self.denormalize(latents.to(self.dtype)).to(dtype_of(self.decoder))
        z = z.contiguous(memory_format=torch.channels_last_3d)
        x = self.front_end.inverse(self._checked("decoder", z, self.decoder(z, stream), state))
        if state is None:
            x = x[:, :, self.config.lead :]
        return x, StreamState(cache=stream.next)

    def _checked(self, half: str, given: Tensor, out: Tensor, state: StreamState | None) -> Tensor:
        """`out`, which a half of the network made of `given`. Raises NotFinite, with the layer, if it is not finite."""
        network, past = getattr(self, half), state.cache if state else {}
        what = f"the {half} of {self.config.name}"
        return check_output(out, network, lambda: network(given, Stream(past=past)), what=what, given=given)

    def latents_from_indices(
        self, indices: Int[Tensor, "b t h w"] | Int[Tensor, "b t h w q"]
    ) -> Float[Tensor, "b c t h w"]:
        """The normalized latents that indices stand for: those that `encode` gave with them.

        Raises VidgenError for a tokenizer without a codebook, and for indices that it does not have.
        """
        if not isinstance(self.bottleneck, Quantizer):
            raise VidgenError(f"{self.config.name} has no indices: its latents are continuous; decode those")
        wide = torch.promote_types(self.dtype, torch.float32)
        return self.normalize(self.bottleneck.from_indices(indices, dtype=wide).to(self.dtype))

    def decode_indices(
        self,
        indices: Int[Tensor, "b t h w"] | Int[Tensor, "b t h w q"],
        *,
        num_frames: int,
        height: int,
        width: int,
        chunk_latents: int | None = None,
    ) -> Float[Tensor, "b 3 T H W"]:
        """The clip of these indices. Raises VidgenError as `latents_from_indices`, or if they are not of that size."""
        latents, f = self.latents_from_indices(indices), self.config.spatial_compression_ratio
        if latents.shape[3:] != (-(-height // f), -(-width // f)):
            raise VidgenError(
                f"indices {tuple(indices.shape)} do not hold frames of {height}x{width}: "
                f"{self.config.name} needs {-(-height // f)}x{-(-width // f)} of them for each latent frame"
            )
        encoded = Encoded(latents=latents, num_frames=num_frames, height=height, width=width)
        return self.decode(encoded, chunk_latents=chunk_latents)

    def forward(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 3 T H W"]:
        """decode(encode(video))."""
        return self.decode(self.encode(video))

    # Latent statistics

    def _normalize_posterior(self, out: BottleneckOutput) -> Gaussian | None:
        if out.posterior is None:
            return None
        shift = 2.0 * per_channel(self.latents_std, out.latents).log()
        return Gaussian(mean=self.normalize(out.posterior.mean), logvar=out.posterior.logvar - shift)

    # Features

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """Every layer in the order that `iter_features` has them; see `encoding_feature_info`."""
        return encoding_feature_info(self.config, self.encoder.scales, self.bottleneck)

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Every intermediate of encoding with the name of its layer, lazily: stop iterating and the rest is not run."""
        check_video(video)
        frames = pad_clip(
            video.to(dtype_of(self.encoder)),
            self.config.temporal_compression_ratio,
            self.config.spatial_compression_ratio,
            self.config.lead,
        )
        x = self.front_end(frames).contiguous(memory_format=torch.channels_last_3d)
        for name, h in self.encoder.iter_features(x, Stream()):  # noqa: B007 (the last one is the bottleneck's input)
            yield name, h
        out = self.bottleneck(h.to(self.dtype))
        if out.posterior is not None:
            yield "posterior.logvar", self._normalize_posterior(out).logvar
        if out.indices is not None:
            yield "indices", rearrange(out.indices, "b t h w ... -> b (...) t h w")
        yield "latents", self.normalize(out.latents)


def dtype_of(network: nn.Module) -> torch.dtype:
    return next(network.parameters()).dtype


def check_video(video: Tensor) -> None:
    """Raises VidgenError unless `video` is (b, 3, T >= 1, H >= 1, W >= 1) with finite values in [-1, 1]."""
    if video.ndim != 5 or video.shape[1] != 3 or 0 in video.shape:
        raise VidgenError(f"video has shape {tuple(video.shape)}; a tokenizer takes (batch, 3, frames, height, width)")
    low, high = (v.item() for v in torch.aminmax(video.detach()))
    if not (low >= -1.01 and high <= 1.01):  # also false for NaN; 0.01 is bfloat16's rounding at 1, with room
        raise VidgenError(f"video values span [{low:.3g}, {high:.3g}]; pixels must be finite and in [-1, 1]")


def pad_space(x: Float[Tensor, "b c t h w"], multiple: int) -> Float[Tensor, "b c t H W"]:
    """Repeats the last row and column until height and width are multiples of `multiple`."""
    h, w = -x.shape[3] % multiple, -x.shape[4] % multiple
    return F.pad(x, (0, w, 0, h, 0, 0), mode="replicate") if h or w else x


def pad_clip(
    x: Float[Tensor, "b c T H W"], temporal_compression_ratio: int, ratio: int, lead: int | None = None
) -> Float[Tensor, "b c t h w"]:
    """A whole clip by the frame rule: tail and edges repeated to fill their cells, and the first frame `lead` times
    before itself (None: as often as fills its cell)."""
    frames, short = pad_space(x, ratio), -(x.shape[2] - 1) % temporal_compression_ratio
    lead = temporal_compression_ratio - 1 if lead is None else lead
    head, tail = frames[:, :, :1].expand(-1, -1, lead, -1, -1), frames[:, :, -1:].expand(-1, -1, short, -1, -1)
    return torch.cat([head, frames, tail], dim=2)
