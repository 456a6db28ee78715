"""CLIP's vision model, for denoisers that make a clip from an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.conversion import NetworkDraft
from vidgen.checkpoints.drafts import draft_transformers
from vidgen.checkpoints.other_libraries import from_folder
from vidgen.data.frames import float_to_levels
from vidgen.errors import explained
from vidgen.models.encoders.processors import check_sides
from vidgen.models.placement import device_of, dtype_of

MOST_PIXELS = 4096  # on a side of what a processor makes: CLIP's models take 224 to 378

if TYPE_CHECKING:
    from transformers import CLIPImageProcessor


class ImageEncoder(nn.Module):
    """CLIP's vision model: images to the tokens of its last layer but one. `processor` resizes and normalizes them."""

    def __init__(self, model: nn.Module, processor: CLIPImageProcessor) -> None:
        super().__init__()
        self.model, self.processor = model, processor

    def forward(self, images: Sequence[Float[Tensor, "3 h w"]]) -> Float[Tensor, "i n e"]:
        """Return the tokens of images in [-1, 1]."""
        arrays = [rearrange(float_to_levels(x), "c h w -> h w c").cpu().numpy() for x in images]
        with explained("the image processor"):
            pixels = self.processor(images=arrays, return_tensors="pt")["pixel_values"]
        pixels = pixels.to(device_of(self.model), dtype_of(self.model))
        with explained("the image encoder"):
            return self.model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]


def draft_image_encoder(folder: Path, dtype: torch.dtype | None) -> NetworkDraft:
    """Return CLIP's vision model in a folder, to be filled in `dtype`; errors as `draft_transformers`."""
    from transformers import CLIPVisionModel

    # Published files have a part before all names, and some the numbers of positions, which the class makes itself.
    kinds = {"clip_vision_model": CLIPVisionModel}
    return draft_transformers(folder, kinds, dtype, prefix="vision_model.", left_out=(r"position_ids$",))


def read_processor(folder: Path) -> CLIPImageProcessor:
    """Return the processor that resizes and normalizes images for CLIP, from a folder.

    Raises VidgenError if there is none, and for sizes above `MOST_PIXELS`.
    """
    from transformers import CLIPImageProcessor

    processor = from_folder(CLIPImageProcessor, folder, "image processor")
    check_sides(processor, folder, MOST_PIXELS)
    return processor
