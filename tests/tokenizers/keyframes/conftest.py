"""Textures that move as one says, and a small tokenizer with weights that do something."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from vidgen.tokenizers.keyframes.config import KeyframeConfig
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.presets import PRESETS

SMALL = KeyframeConfig(
    key=PRESETS["tiny"],
    gop=4,
    block=8,
    motion_channels=2,
    levels=(5, 5),
    width=8,
    motion_blocks=1,
    frame_blocks=1,
)


def draw_moving(step: tuple[int, int], count: int, height: int = 64, width: int = 80) -> torch.Tensor:
    """(1, 3, t, h, w) float64 in [-1, 1]: a smooth texture; frame k at p is frame 0 at p + k * step, step (x, y)."""
    generator = torch.Generator().manual_seed(0)
    reach = count * max(abs(v) for v in step)
    noise = torch.randn(1, 3, height + 2 * reach + 8, width + 2 * reach + 8, dtype=torch.float64, generator=generator)
    texture = torch.tanh(F.avg_pool2d(noise, 3, stride=1) * 2)
    corners = [(reach + k * step[1], reach + k * step[0]) for k in range(count)]
    return torch.stack([texture[:, :, top : top + height, left : left + width] for top, left in corners], dim=2)


def make_tokenizer(noise: float = 0.1, **changes) -> KeyframeTokenizer:
    """A float64 tokenizer in evaluation mode whose every weight is off its start, so that no layer is silent."""
    torch.manual_seed(0)
    model = KeyframeTokenizer(dataclasses.replace(SMALL, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return model.double().eval().requires_grad_(False)


@pytest.fixture
def moving() -> Callable[..., torch.Tensor]:
    """`draw_moving`."""
    return draw_moving


@pytest.fixture
def tokenizer_of() -> Callable[..., KeyframeTokenizer]:
    """`make_tokenizer`."""
    return make_tokenizer
