"""Processors of transformers: what their models need done to frames, as plain settings and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.checkpoints.other_libraries import from_folder
from vidgen.data.frames import to_uint8
from vidgen.errors import VidgenError, explained

if TYPE_CHECKING:
    from transformers.image_processing_base import ImageProcessingMixin

LARGEST_SIDE = 2**13  # pixels that a processor may bring frames to


def read_processor(folder: Path, is_video: bool) -> dict[str, Any]:
    """Return the settings of the processor in a folder, and its class as "class". Raises VidgenError for none."""
    from transformers import AutoImageProcessor, AutoVideoProcessor

    reasons = []
    for auto in (AutoVideoProcessor, AutoImageProcessor) if is_video else (AutoImageProcessor,):
        try:
            processor = from_folder(auto, folder, "processor for its model")
            height, width = input_size(processor)
        except VidgenError as error:
            reasons.append(error)
            continue
        if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
            raise VidgenError(f"{folder}: a processor to {height}x{width} pixels; 1 to {LARGEST_SIDE} are read")
        check_sides(processor, folder, LARGEST_SIDE)
        values = {name: value for name, value in processor.to_dict().items() if not name.endswith("processor_type")}
        if values.get("offset") is False:  # transformers' video processor of ViViT would shift pixels all the same
            raise VidgenError(f"{folder}: a processor with offset false is not read; scale pixels to [-1, 1]")
        return {"class": type(processor).__name__, **values}
    raise reasons[-1]


def check_sides(processor: ImageProcessingMixin, folder: Path, largest: int) -> None:
    """Raise VidgenError for a side above `largest` pixels that frames are resized or cropped to, which pads them."""
    for name in ("size", "crop_size"):
        for side, pixels in dict(getattr(processor, name, None) or {}).items():
            if pixels is not None and not (isinstance(pixels, int) and 0 < pixels <= largest):
                raise VidgenError(f"{folder}: {name}.{side}={pixels!r} of the image processor is not 1 to {largest}")


def make_processor(values: dict[str, Any]) -> ImageProcessingMixin:
    """Return a processor of transformers from its settings, see `read_processor`."""
    import transformers

    return getattr(transformers, values["class"])(**{name: value for name, value in values.items() if name != "class"})


def input_size(processor: ImageProcessingMixin) -> tuple[int, int]:
    """Return the height and width that a processor brings square frames to, before it crops them."""
    with explained("a processor's size"):
        size = processor.size or processor.crop_size
        edge = size.get("shortest_edge")
        return (int(edge), int(edge)) if edge else (int(size["height"]), int(size["width"]))


def to_frames(video: Float[Tensor, "b 3 T H W"]) -> UInt8[Tensor, "b T 3 H W"]:
    """Return the 8-bit frames that clips in [-1, 1] were made of. Raises ValueError for values outside, or NaN."""
    clips = [torch.from_numpy(to_uint8(clip)) for clip in video]
    return rearrange(torch.stack(clips), "b t h w c -> b t c h w")


def process_clips(
    processor: ImageProcessingMixin, video: Float[Tensor, "b 3 T H W"], like: Tensor
) -> Float[Tensor, "b T 3 h w"]:
    """Return what a model's own processor makes of clips, on the device and in the precision of `like`."""
    from transformers.video_processing_utils import BaseVideoProcessor

    frames = to_frames(video).to(like.device)
    if isinstance(processor, BaseVideoProcessor):
        inputs = processor(videos=list(frames), return_tensors="pt", do_sample_frames=False)
        (pixels,) = inputs.values()
    else:
        inputs = processor(images=list(frames.flatten(0, 1)), return_tensors="pt")
        pixels = rearrange(inputs["pixel_values"], "(b t) c h w -> b t c h w", b=len(video))
    return pixels.to(like)
