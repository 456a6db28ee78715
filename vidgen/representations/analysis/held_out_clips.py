"""Held-out clips of the synthetic world, as a model takes them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ClipLabels, ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder, Pipeline
from vidgen.representations.extract import default_window

DEFAULT_FPS = 8


def draw_clips(model: Pipeline | Encoder, n: int, seed: int = 0) -> tuple[Float[Tensor, "n 3 T H W"], list[ClipLabels]]:
    """Return the first n held-out clips of the size, length and rate that a model was trained at, and their labels.

    Raises VidgenError for a size that the world has no clips of.
    """
    window = default_window(model, None, None, None)
    height, width = window["size"]
    fps = round(window["fps"] or DEFAULT_FPS)
    try:
        config = ShapeWorldConfig(
            height=height, width=width, num_frames=window["num_frames"], fps=fps, seed=seed, split="held_out"
        )
    except ValueError as error:
        raise VidgenError(f"the shape world has no clips of the size that this model takes: {error}") from None
    clips = [ShapeWorld(config)[index] for index in range(n)]
    return torch.stack([to_tensor(clip.video) for clip in clips]), [clip.labels for clip in clips]
