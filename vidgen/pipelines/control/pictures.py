"""Pictures that control starts from: a model's own of a prompt or one that is given, and where the subject is in it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.models.placement import device_of, dtype_of
from vidgen.pipelines.output import decode_pixels
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.read_pixels import Image, read_image
from vidgen.samplers.control.edit_masks import box_of, edit_map
from vidgen.samplers.control.motion_fields import Box


def encode_pixels(pipe: VideoPipeline, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b c t h w"]:
    """Return the latents of clips in [-1, 1], in the precision of the tokenizer's weights."""
    return pipe.vae.encode(video.clamp(-1.0, 1.0).to(device_of(pipe.vae), dtype_of(pipe.vae))).latents.float()


def make_picture(
    pipe: VideoPipeline, prompt: str, image: Image | None, size: tuple[int, int], **settings: Any
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "1 c 1 h w"]]:
    """Return a picture in [-1, 1] and its latents: `image`, or what the model makes of the prompt as a clip of one
    frame under the `settings` of a call. Raises VidgenError for an image of another size (height, width)."""
    if image is not None:
        pixels = read_image(image, (1, *size), "the image")
        return pixels, encode_pixels(pipe, pixels[None, :, None])
    still = pipe(prompt, num_frames=1, height=size[0], width=size[1], output_type="latent", **settings).latents
    return decode_pixels(pipe.vae, still)[0, :, 0].cpu(), still.to(pipe.device)


@torch.inference_mode()
def find_subject(pipe: VideoPipeline, prompt: str, latents: Float[Tensor, "1 c 1 h w"]) -> Box:
    """Return the box, in pixels, of what a prompt says that a picture shows: where the model without the prompt would
    make something else of it. Raises VidgenError where the prompt changes nothing."""
    noise = sample_generator(0, "edit map")
    target, source = pipe.unguided([prompt]), pipe.unguided([""])
    share = edit_map(target, source, latents, pipe.path, generator=noise)[0, 0]
    if not float(share.sum()) > 0.5:
        raise VidgenError(f"the model sees nothing of {prompt!r} in the picture; say where the subject is (box)")
    f = pipe.vae.config.spatial_compression_ratio
    return tuple(f * side for side in box_of(share))


def middle_of(box: Box) -> Float[Tensor, " 2"]:
    """Return the middle (x, y) of a box."""
    left, top, right, bottom = box
    return torch.tensor([(left + right) / 2.0, (top + bottom) / 2.0], dtype=torch.float64)


def check_box(box: Box, size: tuple[int, int]) -> None:
    """Raise VidgenError for a box that is empty or not inside a picture of (height, width)."""
    left, top, right, bottom = box
    if not (0.0 <= left < right <= size[1] and 0.0 <= top < bottom <= size[0]):
        raise VidgenError(
            f"box {left:g},{top:g},{right:g},{bottom:g} is none of a picture of {size[0]}x{size[1]} pixels: give "
            "left,top,right,bottom"
        )
