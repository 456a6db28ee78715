"""KeyframeTokenizer: groups of frames, the first coded as an image, the others as motion that moves it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.warping import spread, warp
from vidgen.tokenizers.bottlenecks import BottleneckOutput, Quantizer
from vidgen.tokenizers.encoded import Encoded, check_video, pad_space
from vidgen.tokenizers.keyframes.block_matching import check_field, match_blocks
from vidgen.tokenizers.keyframes.codes import GroupState, KeyframeCodes, Synthesis, check_codes, cut_groups, join
from vidgen.tokenizers.keyframes.config import KeyframeConfig
from vidgen.tokenizers.keyframes.features import KeyframeFeatures
from vidgen.tokenizers.keyframes.motion_networks import FrameSynthesizer, MotionDecoder, MotionEncoder
from vidgen.tokenizers.mixin import denormalize, normalize
from vidgen.tokenizers.model import VideoTokenizer

PIXELS_AT_ONCE = 2**20  # of all frames that go through together: some hundred MB of activations


class KeyframeTokenizer(KeyframeFeatures, Pretrained):
    """Key frames and motion as separate tokens (the split of Video-LaVIT, Jin et al. 2024, section 3.1).

    Pixels are (b, 3, T, H, W) in [-1, 1]. Frame 0, gop, 2 gop, ... is a key frame and goes through `key`, a
    VideoTokenizer, as a clip of one frame; of every other frame only a field of vectors to its key frame is kept,
    one token a block. The paper decodes with a diffusion model; here the key frame is moved and corrected.

    Groups stand alone, so a clip streams group by group in memory that does not grow with it. Changing frame k leaves
    all tokens and frames before it as they were; what is not causal is a field that a file brings, whose encoder
    looked ahead. A group is encoded once all of its frames are there.
    """

    config_class = KeyframeConfig
    motion_mean: Tensor
    motion_std: Tensor

    def __init__(self, config: KeyframeConfig) -> None:
        super().__init__(config)
        self.key = VideoTokenizer(config.key)
        self.bottleneck = config.build_bottleneck()
        self.encoder = MotionEncoder(self.bottleneck.channels_in, config.width, config.motion_blocks)
        self.decoder = MotionDecoder(config.motion_channels, config.width, config.motion_blocks)
        # Named as it was first, since weights on disk go by the name.
        self.synthesiser = FrameSynthesizer(config.width, config.width, config.frame_blocks)
        self.register_buffer("motion_mean", torch.zeros(config.motion_channels))
        self.register_buffer("motion_std", torch.ones(config.motion_channels))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the latents."""
        return self.key.dtype

    # Motion

    def measure_motion(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 2 T i j"]:
        """Return the field of every frame to its key frame, matched block by block; in pixels, 0 for key frames."""
        check_video(video)
        gop = self.config.gop
        fields = []
        for first, stop, size in cut_groups(video.shape[2], gop, frames_at_once(*video.shape[3:])):
            x = pad_space(video[:, :, first:stop].to(self._wide), self.config.block)
            x = rearrange(x, "b c (n g) h w -> (b n) c g h w", g=size)
            field = match_blocks(x[:, :, 0], x[:, :, 1:], self.config.block)
            field = torch.cat([field.new_zeros(*field.shape[:2], 1, *field.shape[3:]), field], dim=2)
            fields.append(rearrange(field, "(b n) d g i j -> b d (n g) i j", b=video.shape[0]))
        return torch.cat(fields, dim=2)

    def warp_keys(
        self, keys: Float[Tensor, "b 3 n H W"], field: Float[Tensor, "b 2 T i j"]
    ) -> Float[Tensor, "b 3 T H W"]:
        """Return key frames moved by fields as they are, block by block: what the vectors alone give."""
        parts = []
        for key, part in zip(keys.unbind(2), field.split(self.config.gop, dim=2), strict=True):
            parts.append(warp(key, spread(part, self.config.block)[..., : key.shape[2], : key.shape[3]]))
        return torch.cat(parts, dim=2)

    # Encoding

    def encode(
        self,
        video: Float[Tensor, "b 3 T H W"],
        *,
        motion: Float[Tensor, "b 2 T i j"] | None = None,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
        chunk_frames: int | None = None,
    ) -> KeyframeCodes:
        """Return the tokens of a clip.

        `motion` is its field where there is one already, as of `measure_motion` or a file. `sample_posterior` draws
        continuous latents from `generator`. `chunk_frames` bounds the frames that go through together, to whole groups;
        the result is the same. Raises VidgenError as VideoTokenizer.encode does, and for a field of another size or
        that is not finite.
        """
        check_video(video)
        b, _, t, height, width = video.shape
        motion = self.measure_motion(video) if motion is None else check_field(motion, video, self.config.block)
        keys = []
        for first, stop, size in cut_groups(t, self.config.gop, chunk_frames or frames_at_once(*video.shape[3:])):
            images = rearrange(video[:, :, first:stop:size], "b c n h w -> (b n) c 1 h w")
            keys.append(self.key.encode(images, sample_posterior=sample_posterior, generator=generator))
        hidden = self.encode_motion(motion, chunk_frames or frames_at_once(*video.shape[3:]))
        out = self._quantize(hidden, sample=sample_posterior, generator=generator)
        losses = {f"motion_{name}": value for name, value in out.losses.items()}
        for name in keys[0].losses:
            values = torch.stack([key.losses[name] for key in keys])
            counts = values.new_tensor([key.latents.shape[0] for key in keys])
            losses[f"key_{name}"] = (values * counts).sum() / counts.sum()
        latents = [rearrange(key.latents, "(b n) c 1 h w -> b c n h w", b=b) for key in keys]
        indices = [None if k.indices is None else rearrange(k.indices, "(b n) 1 ... -> b n ...", b=b) for k in keys]
        return KeyframeCodes(
            key_latents=join(latents, 2),
            motion_latents=self.normalize(out.latents),
            num_frames=t,
            height=height,
            width=width,
            key_indices=join(indices, 1),
            motion_indices=out.indices,
            losses=losses,
        )

    def encode_chunk(
        self, video: Float[Tensor, "b 3 k H W"], state: GroupState | None = None, last: bool = False
    ) -> tuple[KeyframeCodes | None, GroupState]:
        """Return the tokens of the groups that these frames complete, None where they complete none, and the state for
        the next chunk.

        `state` None starts a clip; `last` takes the group as it is. Any number of frames, none included once a clip has
        started.
        """
        if state is None or video.shape[2] > 0:
            check_video(video)
        if state is not None and state.pending is not None:
            video = torch.cat([state.pending, video], dim=2)
        frames = video.shape[2]
        ready = frames if last else frames // self.config.gop * self.config.gop
        codes = self.encode(video[:, :, :ready]) if ready else None
        # A clone, since a view would keep the whole chunk alive for as long as the state is.
        return codes, GroupState(pending=video[:, :, ready:].clone() if ready < frames else None)

    def encode_motion(self, motion: Float[Tensor, "b 2 T i j"], at_once: int = 1) -> Float[Tensor, "b d m i j"]:
        """Return the bottleneck's input for the fields of all frames, key frames' left out, `at_once` frames or a group
        at a time."""
        hidden = []
        for first, stop, size in cut_groups(motion.shape[2], self.config.gop, at_once):
            field = rearrange(motion[:, :, first:stop], "b d (n g) i j -> (b n) d g i j", g=size)[:, :, 1:]
            if size == 1:
                hidden.append(motion.new_zeros(len(motion), self.bottleneck.channels_in, 0, *motion.shape[3:]))
                continue
            part = self.encoder(field.to(self.dtype))
            hidden.append(rearrange(part, "(b n) d k i j -> b d (n k) i j", b=len(motion)))
        return torch.cat([part.to(self.dtype) for part in hidden], dim=2)

    def _quantize(self, hidden: Tensor, *, sample: bool, generator: torch.Generator | None) -> BottleneckOutput:
        if hidden.shape[2] > 0:
            return self.bottleneck(hidden, sample=sample, generator=generator)
        b, _, _, i, j = hidden.shape
        indices = None
        if isinstance(self.bottleneck, Quantizer):
            books = () if self.bottleneck.quantizers is None else (self.bottleneck.quantizers,)
            indices = torch.zeros(b, 0, i, j, *books, dtype=torch.long, device=hidden.device)
        return BottleneckOutput(latents=hidden.new_zeros(b, self.config.motion_channels, 0, i, j), indices=indices)

    # Decoding

    def decode(self, codes: KeyframeCodes, *, chunk_frames: int | None = None) -> Float[Tensor, "b 3 T H W"]:
        """Return the clip of `codes`, or the part of one.

        Groups need nothing of each other, so there is no state to pass. Raises VidgenError for codes that do not hold
        the frames that they say.
        """
        return torch.cat([part.frames for part in self._synthesize(codes, chunk_frames)], dim=2)

    def synthesize(self, codes: KeyframeCodes) -> Synthesis:
        """Return what `decode` does with the steps on the way, which training and ablations look at."""
        parts = list(self._synthesize(codes, None))
        whole = {name: torch.cat([getattr(part, name) for part in parts], dim=2) for name in vars(parts[0])}
        return Synthesis(**whole)

    def _synthesize(self, codes: KeyframeCodes, chunk_frames: int | None) -> Iterator[Synthesis]:
        check_codes(codes, self.config)
        gop = self.config.gop
        height = codes.height
        width = codes.width
        at_once = chunk_frames or frames_at_once(height, width)
        for first, stop, size in cut_groups(codes.num_frames, gop, at_once):
            n, start = (stop - first) // size, first // gop
            z = rearrange(codes.key_latents[:, :, start : start + n], "b c n h w -> (b n) c 1 h w")
            images = self.key.decode(Encoded(latents=z, num_frames=1, height=height, width=width))
            motion = codes.motion_latents[:, :, first - start : stop - start - n]
            part = self._synthesize_groups(images, rearrange(motion, "b d (n k) i j -> (b n) d k i j", n=n))
            b = codes.key_latents.shape[0]
            yield Synthesis(
                **{name: rearrange(x, "(b n) c k h w -> b c (n k) h w", b=b) for name, x in vars(part).items()}
            )

    def _synthesize_groups(self, images: Tensor, motion: Tensor) -> Synthesis:
        """Decode groups (n, ...) side by side: key frames (n, 3, 1, H, W) and motion latents (n, d, k, i, j)."""
        n, _, k, i, j = motion.shape
        still = images.new_zeros(n, 2, 1, i, j, dtype=torch.promote_types(images.dtype, torch.float32))
        if k == 0:
            return Synthesis(frames=images, warped=images, keys=images, field=still)
        field, features = self.decoder(self.denormalize(motion.to(self.dtype)))
        key = pad_space(images, self.config.block)[:, :, 0]
        height, width = images.shape[3:]
        frames, warped = (x[..., :height, :width] for x in self.synthesiser(key, field, features))
        return Synthesis(
            frames=torch.cat([images, frames], dim=2),
            warped=torch.cat([images, warped], dim=2),
            keys=images,
            field=torch.cat([still, field.to(still.dtype)], dim=2),
        )

    def forward(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b 3 T H W"]:
        """Return decode(encode(video))."""
        return self.decode(self.encode(video))

    def motion_from_indices(
        self, indices: Int[Tensor, "b m i j"] | Int[Tensor, "b m i j q"]
    ) -> Float[Tensor, "b d m i j"]:
        """Return the normalized motion latents of indices; `key.latents_from_indices` gives those of key frames.

        Raises VidgenError for a continuous bottleneck, and for indices that it does not have.
        """
        if not isinstance(self.bottleneck, Quantizer):
            raise VidgenError(f"{self.config.name} has no motion indices: they are continuous; decode latents")
        return self.normalize(self.bottleneck.from_indices(indices, dtype=self._wide).to(self.dtype))

    # Latent statistics and checks

    def normalize(self, z: Float[Tensor, "b d m i j"]) -> Float[Tensor, "b d m i j"]:
        """Return motion latents with mean 0 and standard deviation 1, channel by channel."""
        return normalize(z, self.motion_mean, self.motion_std)

    def denormalize(self, z: Float[Tensor, "b d m i j"]) -> Float[Tensor, "b d m i j"]:
        """Return the bottleneck's latents of normalized ones."""
        return denormalize(z, self.motion_mean, self.motion_std)

    @property
    def _wide(self) -> torch.dtype:
        return torch.promote_types(self.dtype, torch.float32)


def frames_at_once(height: int, width: int) -> int:
    """Return how many frames of that size go through together."""
    return max(1, PIXELS_AT_ONCE // (height * width))
