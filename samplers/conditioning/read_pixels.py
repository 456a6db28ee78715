"""Frame conditioning read from pixels: images by frame, a video to continue or to change, a mask of what is new."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from einops import reduce
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.models.placement import device_of
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning, check_strength

Image = UInt8[np.ndarray, "h w 3"] | Float[Tensor, "3 h w"]  # tensors in [-1, 1]
Video = UInt8[np.ndarray, "T h w 3"] | Float[Tensor, "3 T h w"]
Mask = Shaped[np.ndarray | Tensor, "h w"] | Shaped[np.ndarray | Tensor, "T h w"]
Size = tuple[int, int, int]  # frames, height, width


def read_frame_conditioning(
    vae: Tokenizer,
    size: Size,
    *,
    image: Image | None = None,
    last_image: Image | None = None,
    video: Video | None = None,
    frames: Mapping[int, Image] | None = None,
    mask: Mask | None = None,
    strength: float | None = None,
    conditioning: FrameConditioning | None = None,
) -> FrameConditioning | None:
    """Return the conditioning of clips of a size by pixels, or None where there is none. All clips of a call share it.

    Raises VidgenError for frames outside the clip or named twice, and for pixels, videos and masks of another size.

    Args:
        vae: The tokenizer, with f_t frames to a latent frame.
        size: (frames, height, width) of the clips.
        image: Frame 0, which has a latent frame of its own.
        last_image: The last frame.
        video: Alone, it is continued: its last 1 + k f_t frames, as many as there are, are the clip's first ones. It
            must be shorter than the clip.
        frames: Any frames, by number. A frame after the first fixes its whole latent frame of f_t frames. Missing ones
            are filled with the nearest given frame, so a lone `last_image` becomes f_t equal frames and the clip stops
            on it. (Its latent in motion would need the frames before it, which are not known yet.)
        mask: Of `video`, (height, width) or one a frame: 1 is made anew, 0 is kept, as in diffusers (strength 1 unless
            set). A latent cell is kept where all of its pixels are. Latents are kept exactly, pixels as well as the
            tokenizer codes them.
        strength: A noise level in (0, 1], at which sampling starts from `video`.
        conditioning: Conditioning by latents, which is returned, and stands alone.
    """
    if conditioning is not None:
        if strength is not None or any(value is not None for value in (image, last_image, video, frames, mask)):
            raise VidgenError("`conditioning` holds latents, and stands in place of images, video, mask and strength")
        return conditioning
    images = read_frames(size, image, last_image, frames or {})
    whole = mask is not None or strength is not None
    if whole and video is None:
        raise VidgenError(f"{'a mask' if mask is not None else 'strength'} says what becomes of a video: give one")
    if not images and video is None:
        return None
    if strength is not None:
        check_strength(strength)
    f_t = vae.config.temporal_compression_ratio
    if whole:
        pixels = overlay_frames(read_video(video, size, whole=True), images)
    else:
        if video is not None:
            add_continued_frames(images, video, size, f_t)
        pixels = spread_frames(images, size[0], f_t)
    latents = vae.encode(pixels[None].to(device_of(vae))).latents
    known = torch.zeros(latents.shape[2:], dtype=torch.bool)
    if mask is not None:
        known = latent_mask(~read_mask(mask, size), f_t, vae.config.spatial_compression_ratio)
    known[sorted({-(-number // f_t) for number in images})] = True
    return FrameConditioning(latents=latents, known=known, strength=1.0 if strength is None else strength)


def read_frames(
    size: Size, image: Image | None, last_image: Image | None, frames: Mapping[int, Image]
) -> dict[int, Float[Tensor, "3 h w"]]:
    """Return the frames of a clip that a call fixes, as tensors by number. Raises VidgenError outside of the clip."""
    images: dict[int, Image] = dict(frames)
    for number, value in ((0, image), (size[0] - 1, last_image)):
        if value is not None:
            add_frame(images, number, value)
    tensors = {number: read_image(value, size, f"the image for frame {number}") for number, value in images.items()}
    for number in tensors:
        if number not in range(size[0]):
            raise VidgenError(f"frame {number} lies outside the clip, whose {size[0]} frames are 0 to {size[0] - 1}")
    return tensors


def add_continued_frames(images: dict[int, Tensor], video: Video, size: Size, f_t: int) -> None:
    """Add the last 1 + k f_t frames of a video as the clip's first. Raises VidgenError if it is as long as the clip."""
    start = read_video(video, size)
    if start.shape[1] >= size[0]:
        raise VidgenError(
            f"the video has {start.shape[1]} frames and the clip {size[0]}, so nothing is left to continue: "
            "give its last frames, or more num_frames; or strength or a mask to change it"
        )
    for number, frame in enumerate(start[:, (start.shape[1] - 1) % f_t :].unbind(1)):
        add_frame(images, number, frame)


def add_frame(frames: dict[int, Any], number: int, image: Image) -> None:
    """Put a frame at its number. Raises VidgenError if there is one already."""
    if number in frames:
        raise VidgenError(f"frame {number} is given twice; leave one out")
    frames[number] = image


def read_image(image: Image, size: Size, name: str) -> Float[Tensor, "3 h w"]:
    """Return one image as a tensor in [-1, 1]. Raises VidgenError for another size, and for what are no pixels."""
    frame: Any = image
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3:
        frame = to_tensor(image[None])[:, 0]
    if not isinstance(frame, Tensor) or frame.shape != (3, *size[1:]):
        raise VidgenError(
            f"{name} is {describe(image)}; uint8 ({size[1]}, {size[2]}, 3) is wanted, the size of the clip, "
            "or a tensor (3, height, width) in [-1, 1]"
        )
    return frame.float().cpu()


def read_video(video: Video, size: Size, *, whole: bool = False) -> Float[Tensor, "3 T h w"]:
    """Return a video as a tensor. Raises VidgenError for another size and, where it is `whole`, for another length."""
    clip: Any = video
    if isinstance(video, np.ndarray) and video.ndim == 4 and video.shape[3] == 3 and len(video):
        clip = to_tensor(video)
    if not isinstance(clip, Tensor) or clip.ndim != 4 or clip.shape[0] != 3 or clip.shape[2:] != size[1:]:
        raise VidgenError(f"the video is {describe(video)}; uint8 (frames, {size[1]}, {size[2]}, 3) is wanted")
    if whole and clip.shape[1] != size[0]:
        raise VidgenError(f"the video has {clip.shape[1]} frames and the clip {size[0]}; make num_frames the video's")
    return clip.float().cpu()


def read_mask(mask: Mask, size: Size) -> Bool[Tensor, "T h w"]:
    """Return True for pixels to be made anew: 1, True, or 128 to 255. Raises VidgenError for another size."""
    values = torch.as_tensor(mask)
    if values.shape not in (torch.Size(size[1:]), torch.Size(size)):
        raise VidgenError(f"the mask is {tuple(values.shape)}; {size[1:]} is wanted, or one for each frame, {size}")
    if values.dtype != torch.bool:
        values = values.float() >= (128.0 if values.max() > 1 else 0.5)
    return values.expand(size)


def spread_frames(images: Mapping[int, Float[Tensor, "3 h w"]], num_frames: int, f_t: int) -> Float[Tensor, "3 T h w"]:
    """Return a clip made of some frames alone, each coded after a still of itself.

    Within a latent frame that holds some it is the nearest of them, elsewhere the next one to come, or the last.
    """
    numbers = sorted(images)

    def nearest(number: int) -> int:
        near = [n for n in numbers if -(-n // f_t) == -(-number // f_t)]
        if near:
            return min(near, key=lambda n: (abs(n - number), -n))
        return next((n for n in numbers if n > number), numbers[-1])

    return torch.stack([images[nearest(number)] for number in range(num_frames)], dim=1)


def overlay_frames(
    video: Float[Tensor, "3 T h w"], images: Mapping[int, Float[Tensor, "3 h w"]]
) -> Float[Tensor, "3 T h w"]:
    """Return the video with some frames, by number, in place of its own."""
    return torch.stack([images.get(number, frame) for number, frame in enumerate(video.unbind(1))], dim=1)


def latent_mask(keep: Bool[Tensor, "T h w"], f_t: int, f: int) -> Bool[Tensor, "t i j"]:
    """Return the latent cells, of f_t frames and f x f pixels, whose pixels are all kept. The last may hold fewer."""
    head = keep[:1].expand(f_t - 1, -1, -1)
    tail = keep[-1:].expand(-(len(keep) - 1) % f_t, -1, -1)
    padded = torch.cat([head, keep, tail]).to(torch.uint8)
    return reduce(padded, "(t r) (i p) (j q) -> t i j", "min", r=f_t, p=f, q=f).bool()


def describe(value: object) -> str:
    """Return what a value is, for an error message: its shape, or its type."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"of shape {tuple(shape)}"
