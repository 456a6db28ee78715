"""VideoTokenizer: a causal autoencoder that returns the frames it was given, whole or in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.checkpoints.finite import check_output
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureInfo
from vidgen.models.gradient_checkpointing import GradientCheckpointing
from vidgen.models.placement import dtype_of
from vidgen.tokenizers.backbones.convolutional import FrontEnd
from vidgen.tokenizers.backbones.convolutions import Stream, initialize, name_layers
from vidgen.tokenizers.bottlenecks import BottleneckOutput, Gaussian, Quantizer
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.tokenizers.encoded import Encoded, StreamState, check_video, latent_size, pad_clip, pad_space
from vidgen.tokenizers.feature_layers import encoding_feature_info
from vidgen.tokenizers.mixin import TokenizerMixin, per_channel
from vidgen.tokenizers.streaming.switches import MemorySwitches
from vidgen.tokenizers.streaming.tiling import TiledState, decode_tiled, encode_tiled


class VideoTokenizer(MemorySwitches, GradientCheckpointing, TokenizerMixin, Pretrained):
    """Causal video autoencoder on pixels (b, 3, T, H, W) in [-1, 1] and latents (b, c, t, h, w), normalized.

    t = 1 + ceil((T - 1) / f_t) with the temporal compression ratio f_t: the first frame has a latent of its own (it
    stands f_t times in its patch, or once in Wan's backbone), each later latent holds f_t frames, and the tail repeats
    the last frame. Height and width are padded on the lower right by repeating the edge, and `decode` crops. Norms
    never mix time, so any split into chunks gives the whole-clip result (the causal design of Yu et al. 2024,
    MAGVIT-v2, section 3.2).
    """

    config_class = TokenizerConfig
    streams: ClassVar[bool] = True
    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config)
        c = config.latent_channels
        self.front_end = FrontEnd(config.front_end, config.patch_t, config.patch)
        self.bottleneck = config.build_bottleneck()
        self.encoder, self.decoder = config.build_networks(self.bottleneck.channels_in)
        self.register_buffer("latents_mean", torch.zeros(c))
        self.register_buffer("latents_std", torch.ones(c))
        initialize(self)
        with torch.no_grad():  # the first reconstruction is nearly gray
            for layer in self.decoder.out.children():
                if isinstance(layer, nn.Conv3d):
                    layer.weight.mul_(0.1)
        name_layers(self)
        self.to(memory_format=torch.channels_last_3d)

    # Encoding

    def encode(
        self,
        video: Float[Tensor, "b 3 T H W"],
        *,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
        chunk_frames: int | None = None,
    ) -> Encoded:
        """Return the latents of a clip: the posterior's mode, or a draw from `generator` where `sample_posterior`.

        `generator` also gives what a codebook draws while it learns, in training mode.
        `chunk_frames` bounds the activations in memory to those of that many frames; the result is the same.
        Raises VidgenError for another layout, no frames, NaN, or values outside [-1, 1].
        """
        check_video(video)
        slices = []
        for clips in video.split(1 if self.use_slicing else len(video)):
            parts = []
            state = None
            chunks = clips.split(chunk_frames or clips.shape[2], dim=2)
            for i, chunk in enumerate(chunks):
                hidden, state = self.encode_hidden(chunk, state, last=i + 1 == len(chunks))
                parts.append(hidden)
            slices.append(torch.cat(parts, dim=2))
        hidden = torch.cat(slices) if len(slices) > 1 else slices[0]
        out = self.bottleneck(hidden, sample=sample_posterior, generator=generator)
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
        """Return the latents that these frames complete (perhaps none), and the state for the next chunk.

        `state` None starts a clip; `last` pads the tail by repeating the last frame. Any number of frames, none
        included once a clip has started.
        """
        if state is None or video.shape[2] > 0:
            check_video(video)
        hidden, state = self.encode_hidden(video, state, last)
        return self.normalize(self.bottleneck(hidden).latents), state

    def encode_hidden(
        self, video: Float[Tensor, "b 3 k H W"], state: TiledState | None = None, last: bool = False
    ) -> tuple[Float[Tensor, "b d t h w"], TiledState]:
        """Return the bottleneck's input for the latents that these frames complete, and the state for the next chunk.

        `state` and `last` are those of `encode_chunk`. Pixels are not checked.
        """
        tiles = self.tiles_for(*latent_size(*video.shape[3:], self.config.spatial_compression_ratio))
        return (
            self.encode_frames(video, state, last) if tiles is None else encode_tiled(self, video, state, last, tiles)
        )

    def encode_frames(
        self, video: Float[Tensor, "b 3 k H W"], state: StreamState | None, last: bool
    ) -> tuple[Float[Tensor, "b d t h w"], StreamState]:
        """Return as `encode_hidden`, of whole frames, or of the part of them that a tile is."""
        n = self.config.temporal_compression_ratio
        f = self.config.spatial_compression_ratio
        lead = self.config.lead
        frames = pad_space(video.to(dtype_of(self.encoder)), f)
        absent = 0
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
        with self.checkpointing(self.encoder.layers):
            hidden = self._check("encoder", x, self.encoder(x, stream), state).to(self.dtype)
        return hidden, StreamState(cache=stream.next, pending=pending)

    # Decoding

    def decode(self, encoded: Encoded, *, chunk_latents: int | None = None) -> Float[Tensor, "b 3 T H W"]:
        """Return the clip of `encoded`: the T frames, height and width that went in.

        `chunk_latents` bounds the activations in memory to those of that many latent frames; the result is the same.
        """
        self.check_latents(encoded)
        slices = []
        for z in encoded.latents.split(1 if self.use_slicing else len(encoded.latents)):
            frames = []
            state = None
            for chunk in z.split(chunk_latents or z.shape[2], dim=2):
                x, state = self.decode_chunk(chunk, state)
                frames.append(x[..., : encoded.height, : encoded.width])
            slices.append(torch.cat(frames, dim=2)[:, :, : encoded.num_frames])
        return torch.cat(slices) if len(slices) > 1 else slices[0]

    def decode_chunk(
        self, latents: Float[Tensor, "b c k h w"], state: TiledState | None = None
    ) -> tuple[Float[Tensor, "b 3 F H W"], TiledState]:
        """Return the frames of these latents, uncropped: 1 for a clip's first latent, for each later one as many as
        the temporal compression ratio."""
        tiles = self.tiles_for(*latents.shape[3:])
        return self.decode_frames(latents, state) if tiles is None else decode_tiled(self, latents, state, tiles)

    def decode_frames(
        self, latents: Float[Tensor, "b c k h w"], state: StreamState | None
    ) -> tuple[Float[Tensor, "b 3 F H W"], StreamState]:
        """Return as `decode_chunk`, of whole frames, or of the part of them that a tile is."""
        stream = Stream(past=state.cache if state else {})
        z = self.denormalize(latents.to(self.dtype)).to(dtype_of(self.decoder))
        z = z.contiguous(memory_format=torch.channels_last_3d)
        with self.checkpointing(self.decoder.layers):
            x = self.front_end.inverse(self._check("decoder", z, self.decoder(z, stream), state))
        if state is None:
            x = x[:, :, self.config.lead :]
        return x, StreamState(cache=stream.next)

    def _check(self, half: str, x: Tensor, out: Tensor, state: StreamState | None) -> Tensor:
        """Return `out`, which a half of the network made of `x`. Raises NotFinite, naming the layer, if it is not."""
        network = getattr(self, half)
        past = state.cache if state else {}
        name = lambda: f"the {half} of {self.config.name}"  # noqa: E731 (for errors alone: it takes a millisecond)
        return check_output(out, network, lambda: network(x, Stream(past=past)), what=name, given=x)

    def latents_from_indices(
        self, indices: Int[Tensor, "b t h w"] | Int[Tensor, "b t h w q"]
    ) -> Float[Tensor, "b c t h w"]:
        """Return the normalized latents that indices stand for: those that `encode` gave with them.

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
        """Return the clip of these indices.

        Raises VidgenError as `latents_from_indices` does, and where they are not of that height and width.
        """
        latents = self.latents_from_indices(indices)
        rows, cols = latent_size(height, width, self.config.spatial_compression_ratio)
        if latents.shape[3:] != (rows, cols):
            raise VidgenError(
                f"indices {tuple(indices.shape)} do not hold frames of {height}x{width}: "
                f"{self.config.name} needs {rows}x{cols} of them for each latent frame"
            )
        encoded = Encoded(latents=latents, num_frames=num_frames, height=height, width=width)
        return self.decode(encoded, chunk_latents=chunk_latents)

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
        """Yield every intermediate of encoding with the name of its layer: stop iterating and the rest is not run."""
        check_video(video)
        config = self.config
        video = video.to(dtype_of(self.encoder))
        frames = pad_clip(video, config.temporal_compression_ratio, config.spatial_compression_ratio, config.lead)
        x = self.front_end(frames).contiguous(memory_format=torch.channels_last_3d)
        for name, hidden in self.encoder.iter_features(x, Stream()):  # noqa: B007 (the last is the bottleneck's input)
            yield name, hidden
        out = self.bottleneck(hidden.to(self.dtype))
        if out.posterior is not None:
            yield "posterior.logvar", self._normalize_posterior(out).logvar
        if out.indices is not None:
            yield "indices", rearrange(out.indices, "b t h w ... -> b (...) t h w")
        yield "latents", self.normalize(out.latents)
