"""The check, before any clip is read, that features can be made in the memory that is free."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vidgen.checkpoints.memory import check_bytes, free_bytes
from vidgen.models.placement import device_of
from vidgen.profiling.live_memory import meta_peak
from vidgen.representations.denoiser_encoder import up_to_last
from vidgen.representations.feature_keys import parse_key

if TYPE_CHECKING:
    from vidgen.representations.extractor import FeatureExtractor
    from vidgen.representations.feature_sets import FeatureSets

COPIES = 2  # of a batch's float32 pixels: clips as they come, and the batch of them
PER_PIXEL = (
    1000  # bytes that most encoders hold at most, of each pixel of a frame; where so much is free, nothing is counted
)
KEPT = {"none": (1, 1), "temporal": (0, 1), "spatial": (1, 0)}  # pools that leave frames, and places, of a feature


def check_extraction(features: FeatureSets, window: dict[str, Any], batch: int, rows: int) -> None:
    """Raise VidgenError where a batch, its pass through the encoder, or the rows of a shard take more than is free.

    Args:
        features: what is extracted.
        window: num_frames and size (height, width) of a clip.
        batch: clips of a batch.
        rows: of a shard, which are held until it is written.
    """
    frames = window["num_frames"]
    height, width = window["size"]
    clip = f"{frames}x{height}x{width}"
    advice = "lower --batch-size, --num-frames or --size"
    pixels = 4 * 3 * batch * frames * height * width
    check_bytes(COPIES * pixels, f"a batch of {batch} clips of {clip}", advice)
    extractor = features.extractors[""]
    values = sum(row_values(extractor, key, (frames, height, width)) for key in extractor.keys)
    needed = 4 * rows * values * len(features.extractors)
    what = f"keeping the features of {rows} clips of {clip} until they are written"
    check_bytes(needed, what, "choose --pool mean, fewer --layers, --num-frames or a smaller --size")
    encoder = extractor.encoder
    if not isinstance(encoder, nn.Module):
        return
    device = str(device_of(encoder))
    free = free_bytes(device)
    if free is None or PER_PIXEL * batch * frames * height * width <= free:
        return
    what = f"a batch of {batch} clips of {clip} in {type(encoder).__name__}"
    check_bytes(pass_bytes(extractor, (batch, 3, frames, height, width)), what, advice, device)


def row_values(extractor: FeatureExtractor, key: str, clip: tuple[int, int, int]) -> int:
    """Return how many numbers at least a feature has of a clip of frames x height x width."""
    info = extractor.layers[parse_key(key)[0]]
    in_time, in_space = KEPT.get(extractor.pool, (0, 0))
    t, h, w = (max(1, size // step) for size, step in zip(clip, info.reduction, strict=True))
    if extractor.pool == "frame":
        t, in_time = clip[0], 1
    return info.num_chs * (t if in_time else 1) * (math.prod((h, w)) if in_space else 1)


def pass_bytes(extractor: FeatureExtractor, shape: tuple[int, ...]) -> int:
    """Return the most bytes of tensors that a pass through the encoder makes, as far as shapes alone tell."""
    names = {name.removeprefix(extractor.part) for name in extractor.layers if name.startswith(extractor.part)}
    if len(names) < len(extractor.layers):  # the denoiser needs them
        names |= {"latents"}
    video = torch.empty(shape, device="meta")

    def walk(encoder: nn.Module, x: torch.Tensor) -> None:
        for _ in up_to_last(encoder.iter_features(x), names):
            pass

    with torch.no_grad():
        return meta_peak(extractor.encoder, walk, video, partial=True)
