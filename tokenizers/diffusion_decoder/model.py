"""DiffusionTokenizer: a tokenizer's features condition a denoiser, which is the decoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import Pretrained
from vidgen.data.frames import latent_frames
from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.diffusion.paths import FlowPath, expand_level
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.tokenizers.backbones.convolutional import FrontEnd
from vidgen.tokenizers.diffusion_decoder.config import DiffusionTokenizerConfig
from vidgen.tokenizers.encoded import Encoded, StreamState, check_video, latent_size, pad_clip
from vidgen.tokenizers.model import VideoTokenizer

Solver = Callable[..., Tensor]  # (denoise, x, times, path) -> x, as those of vidgen.samplers.solvers.SAMPLERS


class DiffusionTokenizer(FeatureMixin, Pretrained):
    """Encoder and bottleneck of a VideoTokenizer, and a denoiser of pixels that is conditioned on the latents.

    One denoising loss trains both: the encoder learns what helps to denoise, and sampling from noise with the latents
    as the condition decodes (Ge et al. 2024, Divot, section 3). Divot denoises the latents of a published
    autoencoder; here it is patches of the pixels, so that nothing is trained or fetched before.

    Encoding is that of the VideoTokenizer: same latents, frame rule, chunks and layers. Decoding gives back exactly T,
    H and W, as a draw and not as one value: a function of latents, seed and number of steps.
    """

    config_class = DiffusionTokenizerConfig
    streams: ClassVar[bool] = False  # decoding needs all latents of a clip at once

    def __init__(self, config: DiffusionTokenizerConfig) -> None:
        super().__init__(config)
        self.tokenizer = VideoTokenizer(config.tokenizer)
        del self.tokenizer.decoder  # the denoiser stands in its place
        # Any orthogonal front end would do the same: the denoiser's first and last layers are linear in the patch.
        self.front_end = FrontEnd("patch", config.patch_t, config.patch)
        self.denoiser = VideoDiT(config.denoiser)
        if (share := prod(config.patches_per_feature)) > 1:
            self.spread = nn.Linear(config.latent_channels, share * config.latent_channels)
        self.path = FlowPath()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the latents."""
        return self.tokenizer.dtype

    def latent_frames(self, num_frames: int) -> int:
        """Return how many latent frames hold a clip, as `VideoTokenizer.latent_frames` does."""
        return self.tokenizer.latent_frames(num_frames)

    # Encoding

    def encode(
        self,
        video: Float[Tensor, "b 3 T H W"],
        *,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
        chunk_frames: int | None = None,
    ) -> Encoded:
        """Return the latents of a clip, as `VideoTokenizer.encode` gives them."""
        return self.tokenizer.encode(
            video, sample_posterior=sample_posterior, generator=generator, chunk_frames=chunk_frames
        )

    def encode_chunk(
        self, video: Float[Tensor, "b 3 k H W"], state: StreamState | None = None, last: bool = False
    ) -> tuple[Float[Tensor, "b c t h w"], StreamState]:
        """Return the latents that these frames complete, as `VideoTokenizer.encode_chunk` gives them."""
        return self.tokenizer.encode_chunk(video, state, last)

    # Denoising

    def patches(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b d t h w"]:
        """Return what is denoised: pixels as patches.

        The first frame fills its own patch by repeating; so do tail and edges.
        """
        check_video(video)
        return self.front_end(pad_clip(video, self.config.patch_t, self.config.spatial_compression_ratio))

    def pixels(self, patches: Float[Tensor, "b d t h w"], first: bool = True) -> Float[Tensor, "b 3 T H W"]:
        """Return the frames of patches, uncropped; where they are a clip's `first`, one frame of the first patch."""
        x = self.front_end.inverse(patches)
        return x[:, :, self.config.patch_t - 1 :] if first else x

    def condition(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c f i j"]:
        """Return a feature for every patch: the latents, or of a latent with several patches, the share of each."""
        z = self.tokenizer.denormalize(latents)
        t, h, w = self.config.patches_per_feature
        if t * h * w == 1:
            return z
        z = self.spread(rearrange(z, "b c t h w -> b t h w c").to(self.spread.weight.dtype))
        z = rearrange(z, "b t h w (p q r c) -> b c (t p) (h q) (w r)", p=t, q=h, r=w)
        return z[:, :, t - 1 :]  # the first latent is of one frame, and has one patch in time

    def predict(
        self, x: Float[Tensor, "b d f i j"], t: Float[Tensor, b * f], latents: Float[Tensor, "b c t h w"]
    ) -> Float[Tensor, "b d f i j"]:
        """Return the network's prediction for noisy patches x at levels t, by the config's prediction_type."""
        return self.denoiser(x, t, features=self.condition(latents)[:, :, : x.shape[2]])

    # Decoding

    @torch.no_grad()
    def decode(
        self, encoded: Encoded, solve: Solver, *, seed: int = 0, num_inference_steps: int | None = None
    ) -> Float[Tensor, "b 3 T H W"]:
        """Return the clip of `encoded`, sampled by `solve`, such as `vidgen.SAMPLERS["euler"]`, in float32.

        A clip is a function of its latents, `seed` and `num_inference_steps` (None: the config's), whatever else is in
        the batch. One step gives the denoiser's mean of all clips that the features allow: more PSNR, less detail.
        Clips longer than `config.window` are decoded window by window. Raises VidgenError if the latents do not hold
        the clip.
        """
        config = self.config
        z = encoded.latents
        grid = latent_size(encoded.height, encoded.width, config.spatial_compression_ratio)
        expected = (config.latent_channels, self.latent_frames(encoded.num_frames), *grid)
        if tuple(z.shape[1:]) != expected:
            raise VidgenError(
                f"latents {tuple(z.shape)} do not hold {encoded.num_frames} frames of "
                f"{encoded.height}x{encoded.width}: {config.name} needs {expected} for each clip"
            )
        count = config.num_inference_steps if num_inference_steps is None else num_inference_steps
        times, generator = config.time.steps(count), sample_generator(seed, "decoder")
        features = self.condition(z)
        total = latent_frames(encoded.num_frames, config.patch_t)
        done = 0
        parts: list[Tensor] = []
        while done < total:
            context = 1 if done and config.hold_first > 0 else 0
            stop = min(total, done + config.window - context)
            first = self._repeat_last(parts[-1]) if context else None
            denoise = hold_first(self._denoiser(features[:, :, done - context : stop]), first)
            noise = draw_normal((config.denoiser.latent_channels, stop - done + context, *self._grid(z)), generator)
            x = solve(denoise, noise.to(z.device).expand(len(z), -1, -1, -1, -1), times, self.path)
            parts.append(self.pixels(x[:, :, context:], first=done == 0))
            done = stop
        return torch.cat(parts, dim=2)[:, :, : encoded.num_frames, : encoded.height, : encoded.width]

    def _denoiser(self, features: Float[Tensor, "b c f i j"]) -> Denoiser:
        return make_denoiser(self.denoiser, self.path, self.config.prediction_type, features=features)

    def _grid(self, latents: Tensor) -> tuple[int, int]:
        """Return rows and columns of patches."""
        _, h, w = self.config.patches_per_feature
        return latents.shape[3] * h, latents.shape[4] * w

    def _repeat_last(self, video: Float[Tensor, "b 3 k H W"]) -> Float[Tensor, "b d 1 i j"]:
        """Return the patch of a first frame, of a clip that would start with the last frame of `video`."""
        return self.front_end(video[:, :, -1:].clamp(-1.0, 1.0).expand(-1, -1, self.config.patch_t, -1, -1))

    # Features

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The layers of the encoder, and the latents."""
        return self.tokenizer.feature_info

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield every intermediate of encoding with the name of its layer: stop iterating and the rest is not run."""
        return self.tokenizer.iter_features(video)


def hold_first(denoise: Denoiser, first: Float[Tensor, "b d 1 i j"] | None) -> Denoiser:
    """Return the denoiser of clips whose first frame of patches is `first`: it goes in clean, at level 0, and comes
    back.

    For the solver it is a frame like any other, so that every solver keeps its order. `first` None: `denoise` itself.
    """
    if first is None:
        return denoise

    def denoise_rest(x: Tensor, t: Tensor) -> Tensor:
        levels = expand_level(t, x)[:, 0, :, 0, 0].expand(-1, x.shape[2]).clone()
        levels[:, 0] = 0.0
        x0 = denoise(torch.cat([first, x[:, :, 1:]], dim=2), levels)
        return torch.cat([first, x0[:, :, 1:]], dim=2)

    return denoise_rest
