"""Wan's transformers for images: the image goes in as latents beside the noise, and as CLIP's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.placement import device_of
from vidgen.pipelines.image_encoder import ImageEncoder
from vidgen.pipelines.output import PipelineOutput
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.read_pixels import Image, read_image


class ImageToVideoPipeline(VideoPipeline):
    """A VideoPipeline whose call wants an image, for transformers that take it beside the latents.

    The known frames and zeros in place of the others go through the tokenizer as one clip; 4 more channels say which
    frames are known. All clips of a call share the image.
    """

    def __init__(self, *parts: Any, image_encoder: ImageEncoder | None = None) -> None:
        super().__init__(*parts)
        self.image_encoder = image_encoder

    @property
    def components(self) -> dict[str, Any]:
        """The parts by name, those that are there."""
        return super().components | ({"image_encoder": self.image_encoder} if self.image_encoder is not None else {})

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        image: Image | None = None,
        last_image: Image | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        **settings: Any,
    ) -> PipelineOutput | tuple[Any, ...]:
        """Return clips as `VideoPipeline` does; `last_image` is the last frame itself.

        Raises VidgenError without an image, and for a last one where the transformer takes one only.
        """
        s = self.scheduler
        size = (num_frames or s.num_frames, height or s.height, width or s.width)
        self.latent_shape(*size)  # before any work: its errors
        if image is None:
            raise VidgenError("this model makes clips from an image: give it one (image=..., or --image)")
        images = [read_image(image, size, "the image")]
        if last_image is not None:
            images.append(read_image(last_image, size, "the last image"))
        transformer = self.transformer.with_image(self.image_latents(images, size), self.image_tokens(images))
        bound = VideoPipeline(self.vae, transformer, self.text_encoder, s)
        return bound(prompt, num_frames=size[0], height=size[1], width=size[2], **settings)

    def image_latents(
        self, images: Sequence[Float[Tensor, "3 h w"]], size: tuple[int, int, int]
    ) -> Float[Tensor, "1 k t h w"]:
        """Return a channel for each frame of a latent, 1 where the frame is an image, and the latents of the images."""
        ratio = self.vae.config.temporal_compression_ratio
        frames = size[0] + -(size[0] - 1) % ratio
        video = torch.zeros(3, frames, *size[1:])
        is_image = torch.zeros(frames)
        for index, image in zip((0, size[0] - 1), images, strict=False):
            video[:, index] = image
            is_image[index] = 1.0
        latents = self.vae.encode(video[None].to(device_of(self.vae))).latents
        cells = rearrange(F.pad(is_image, (ratio - 1, 0), value=1.0), "(t r) -> 1 r t 1 1", r=ratio)
        mask = cells.expand(-1, -1, -1, *latents.shape[3:]).to(latents)
        return torch.cat([mask, latents], dim=1)

    def image_tokens(self, images: Sequence[Float[Tensor, "3 h w"]]) -> Float[Tensor, "i n e"] | None:
        """Return the image encoder's tokens, where there is one. Raises VidgenError as a call."""
        settings = self.transformer.config.settings
        if self.image_encoder is None:
            return None
        if len(images) == 2 and settings.get("pos_embed_seq_len") is None:
            raise VidgenError("this transformer was made for a first image only; leave last_image out")
        return self.image_encoder(images)
