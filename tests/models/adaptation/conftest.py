"""Tiny encoders to adapt, each of other weights than those of their start."""

from collections.abc import Callable

import pytest
import torch

from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig

SMALL = {"patch": (2, 4, 4), "width": 32, "depth": 2, "head_dim": 16, "clip": (4, 8, 8)}


@pytest.fixture
def make() -> Callable[..., VideoViT]:
    """Return a VideoViT of clips (4, 8, 8), or of another shape."""

    def build(**shape) -> VideoViT:
        torch.manual_seed(0)
        return VideoViT(VideoViTConfig(**SMALL | shape)).eval()

    return build


@pytest.fixture
def video() -> torch.Tensor:
    """Two clips."""
    return torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
