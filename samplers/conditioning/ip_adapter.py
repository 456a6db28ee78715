"""Reference images: pictures of what a clip shows, which are none of its frames, as tokens beside the prompt's."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import fit_frame
from vidgen.data.reading import iter_frames
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.models.ip_adapter import IPAdapterEncoder, beside_text
from vidgen.models.placement import device_of
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.learned_tokens import LearnedTokens
from vidgen.samplers.conditioning.read_pixels import Image, read_image
from vidgen.samplers.finite import require_finite

Picture = Image | str | os.PathLike  # a picture, or the path of its file
Reference = Picture | Sequence[Picture] | LearnedTokens


def read_reference(reference: Reference, size: tuple[int, int]) -> list[Float[Tensor, "3 h w"]]:
    """Return the pictures at `size` (height, width): files and uint8 arrays of any size are fitted to it by "crop".

    Raises VidgenError for an empty list, for files without a picture, and for arrays and tensors that are none.
    """
    pictures = list(reference) if isinstance(reference, (list, tuple)) else [reference]
    if not pictures:
        raise VidgenError("reference is an empty list; give a picture, or leave reference out")
    frames = []
    for number, picture in enumerate(pictures):
        if isinstance(picture, (str, os.PathLike)):
            picture = next(frame for _, frame in iter_frames(picture, size=size, fit="crop"))
        elif isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,):
            picture = fit_frame(picture, size, "crop")
        frames.append(read_image(picture, (1, *size), f"reference image {number}"))
    return frames


def encode_reference(
    encoder: IPAdapterEncoder | None, vae: Tokenizer, reference: Reference, size: tuple[int, int]
) -> Float[Tensor, "n d"]:
    """Return the tokens of the pictures, one picture's after the other's, each coded by itself at `size`; learned ones
    as they are.

    Raises VidgenError without an encoder, and as `read_reference`.
    """
    if isinstance(reference, LearnedTokens):
        return reference().detach().to(device_of(vae))
    if encoder is None:
        raise VidgenError(
            "this model has no image_prompt to read reference images with; leave reference out, or train one: "
            "vidgen train diffusion_default_reference"
        )
    pictures = torch.stack(read_reference(reference, size))[:, :, None]
    latents = vae.encode(pictures.to(device_of(vae))).latents
    tokens = require_finite(encoder(latents), "the image prompt encoder gave", "run it in float32")
    return rearrange(tokens, "k n d -> (k n) d")


def add_image_tokens(image_tokens: Float[Tensor, "n d"] | None, text: TextEncoding) -> TextEncoding:
    """Return the prompts, each beside the same pictures' tokens; None leaves them as they are.

    Raises VidgenError for tokens of another width.
    """
    if image_tokens is not None and image_tokens.shape[1] != text.tokens.shape[2]:
        raise VidgenError(
            f"tokens of a reference are {image_tokens.shape[1]} wide, and this model reads {text.tokens.shape[2]}: "
            "they were learned with another model"
        )
    return text if image_tokens is None else beside_text(text, image_tokens.expand(len(text.mask), -1, -1))
