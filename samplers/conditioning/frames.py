"""Conditions from pixels: images at their places, a video to continue or to change, a mask of what is made anew."""

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
from vidgen.samplers.conditioning.inpainting import Conditions, check_strength

Image = UInt8[np.ndarray, "h w 3"] | Float[Tensor, "3 h w"]  # tensors in [-1, 1]
Video = UInt8[np.ndarray, "T h w 3"] | Float[Tensor, "3 T h w"]
Mask = Shaped[np.ndarray | Tensor, "h w"] | Shaped[np.ndarray | Tensor, "T h w"]


def read_conditions(
    vae: Any,
    size: tuple[int, int, int],
    *,
    image: Image | None = None,
    last_image: Image | None = None,
    video: Video | None = None,
    frames: Mapping[int, Image] | None = None,
    mask: Mask | None = None,
    strength: float | None = None,
    given: Conditions | None = None,
) -> Conditions | None:
    """The conditions of clips of `size` (frames, height, width) for the tokenizer `vae`; None if nothing is given.

    - `image` is frame 0, `last_image` the last one, `frames` has any, by number. Frame 0 has a latent frame of its own.
      A later one is given as the latent frame that holds it, of `temporal_compression_ratio` frames: what of these is not given is filled
      with the nearest that is. So `last_image` is a still of `temporal_compression_ratio` frames, coded as the end of a still: the clip
      comes to rest on it. A latent of one moving frame would need the frames before it, which are not known yet.
    - `video` alone is continued: its last 1 + k `temporal_compression_ratio` frames, as many as there are, are the clip's first ones. It
      must be shorter than the clip.
    - `video` with `strength`, a noise level in (0, 1]: sampling starts from it at that level.
    - `video` with `mask`, (height, width) or one a frame: 1 is made anew, 0 is kept, as in diffusers (strength 1 unless
      given). A latent cell is kept where all of its pixels are. Latents are kept exactly, pixels as well as the
      tokenizer codes them.

    All clips of a call share them. `given` are conditions already: they are returned, and stand alone. Raises
    VidgenError for frames outside the clip or given twice, and for pixels, videos and masks of another size.
    """
    if given is not None:
        if strength is not None or any(value is not None for value in (image, last_image, video, frames, mask)):
            raise VidgenError("`given` holds latents, and stands in place of images, video, mask and strength")
        return given
    pictures = dict(frames or {})
    places = [0] * (image is not None) + [size[0] - 1] * (last_image is not None)
    for place, picture in zip(places, [p for p in (image, last_image) if p is not None], strict=True):
        add_frame(pictures, place, picture)
    whole = mask is not None or strength is not None
    if whole and video is None:
        raise VidgenError(f"{'a mask' if mask is not None else 'strength'} says what becomes of a video: give one")
    if not pictures and video is None:
        return None
    if strength is not None:
        check_strength(strength)
    held = {place: read_picture(p, size, f"the image for frame {place}") for place, p in pictures.items()}
    for place in held:
        if place not in range(size[0]):
            raise VidgenError(f"frame {place} lies outside the clip, whose {size[0]} frames are 0 to {size[0] - 1}")
    temporal_compression_ratio = vae.config.temporal_compression_ratio
    if video is not None and not whole:
        start = read_footage(video, size)
        if start.shape[1] >= size[0]:
            raise VidgenError(
                f"the video has {start.shape[1]} frames and the clip {size[0]}, so nothing is left to continue: "
                "give its last frames, or more num_frames; or strength or a mask to change it"
            )
        for place, frame in enumerate(start[:, (start.shape[1] - 1) % temporal_compression_ratio :].unbind(1)):
            add_frame(held, place, frame)
    pixels = (
        place_over(read_footage(video, size, whole=True), held)
        if whole
        else hold(held, size[0], temporal_compression_ratio)
    )
    latents = vae.encode(pixels[None].to(next(vae.parameters()).device)).latents
    known = torch.zeros(latents.shape[2:], dtype=torch.bool)
    if mask is not None:
        known = known_cells(~read_mask(mask, size), temporal_compression_ratio, vae.config.spatial_compression_ratio)
    known[sorted({-(-place // temporal_compression_ratio) for place in held})] = True
    return Conditions(latents=latents, known=known, strength=1.0 if strength is None else strength)


def add_frame(frames: dict[int, Any], place: int, picture: Any) -> None:
    """Puts a frame at its place. Raises VidgenError if there is one already."""
    if place in frames:
        raise VidgenError(f"frame {place} is given twice; leave one out")
    frames[place] = picture


def read_picture(picture: Image, size: tuple[int, int, int], what: str) -> Float[Tensor, "3 h w"]:
    """One image as a tensor in [-1, 1]. Raises VidgenError for another size, and for values that are no pixels."""
    frame: Any = picture
    if isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3:
        frame = to_tensor(picture[None])[:, 0]
    if not isinstance(frame, Tensor) or frame.shape != (3, *size[1:]):
        raise VidgenError(
            f"{what} is {describe(picture)}; uint8 ({size[1]}, {size[2]}, 3) is wanted, the size of the clip, "
            "or a tensor (3, height, width) in [-1, 1]"
        )
    return frame.float().cpu()


def read_footage(video: Video, size: tuple[int, int, int], *, whole: bool = False) -> Float[Tensor, "3 T h w"]:
    """A video as a tensor. Raises VidgenError for another size, and if it is to be `whole`, for another length."""
    clip: Any = video
    if isinstance(video, np.ndarray) and video.ndim == 4 and video.shape[3] == 3 and len(video):
        clip = to_tensor(video)
    if not isinstance(clip, Tensor) or clip.ndim != 4 or clip.shape[0] != 3 or clip.shape[2:] != size[1:]:
        raise VidgenError(f"the video is {describe(video)}; uint8 (frames, {size[1]}, {size[2]}, 3) is wanted")
    if whole and clip.shape[1] != size[0]:
        raise VidgenError(f"the video has {clip.shape[1]} frames and the clip {size[0]}; make num_frames the video's")
    return clip.float().cpu()


def read_mask(mask: Mask, size: tuple[int, int, int]) -> Bool[Tensor, "T h w"]:
    """True for pixels that are made anew: 1, True, or 128 to 255. Raises VidgenError for another size."""
    values = torch.as_tensor(mask)
    if values.shape not in (torch.Size(size[1:]), torch.Size(size)):
        raise VidgenError(f"the mask is {tuple(values.shape)}; {size[1:]} is wanted, or one for each frame, {size}")
    if values.dtype != torch.bool:
        values = values.float() >= (128.0 if values.max() > 1 else 0.5)
    return values.expand(size)


def hold(
    given: Mapping[int, Float[Tensor, "3 h w"]], num_frames: int, temporal_compression_ratio: int
) -> Float[Tensor, "3 T h w"]:
    """A clip made of the given frames alone: within a latent frame that holds some the nearest of them, elsewhere the
    next one to come, so that each is coded after a still of itself; after the last, that one."""
    places = sorted(given)

    def nearest(place: int) -> int:
        near = [q for q in places if -(-q // temporal_compression_ratio) == -(-place // temporal_compression_ratio)]
        if near:
            return min(near, key=lambda q: (abs(q - place), -q))
        return next((q for q in places if q > place), places[-1])

    return torch.stack([given[nearest(place)] for place in range(num_frames)], dim=1)


def place_over(
    video: Float[Tensor, "3 T h w"], given: Mapping[int, Float[Tensor, "3 h w"]]
) -> Float[Tensor, "3 T h w"]:
    """The video with the given frames in place of its own."""
    return torch.stack([given.get(place, frame) for place, frame in enumerate(video.unbind(1))], dim=1)


def known_cells(kept: Bool[Tensor, "T h w"], temporal_compression_ratio: int, ratio: int) -> Bool[Tensor, "t i j"]:
    """The latent cells whose pixels are all kept; the last latent frame may hold fewer than `temporal_compression_ratio` frames."""
    head, tail = (
        kept[:1].expand(temporal_compression_ratio - 1, -1, -1),
        kept[-1:].expand(-(len(kept) - 1) % temporal_compression_ratio, -1, -1),
    )
    padded = torch.cat([head, kept, tail]).to(torch.uint8)
    return reduce(padded, "(t r) (i p) (j q) -> t i j", "min", r=temporal_compression_ratio, p=ratio, q=ratio).bool()


def describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"of shape {tuple(shape)}"
