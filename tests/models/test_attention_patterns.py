"""Spans are attention over the whole clip with a mask: of a frame, of a place, of a window."""

import pytest
import torch

from vidgen.models.attention import plain_attention
from vidgen.models.attention_patterns import over_frames, over_time, over_windows, windows_of

GRID = (3, 5, 7)
CELLS = torch.stack(torch.meshgrid(*(torch.arange(n) for n in GRID), indexing="ij")).flatten(1)  # axis, position


@pytest.fixture(scope="module")
def qkv() -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(2, 2, 3 * 5 * 7, 8, generator=g, dtype=torch.float64) for _ in range(3)]


def together(*labels: torch.Tensor) -> torch.Tensor:
    """Who shares every label with whom, (1, n, n)."""
    same = [label[:, None] == label for label in labels]
    return torch.stack(same).all(0)[None]


def test_frames_and_places(qkv):
    t, h, w = CELLS
    assert torch.allclose(over_frames(plain_attention, *qkv, grid=GRID), plain_attention(*qkv, together(t)))
    assert torch.allclose(over_time(plain_attention, *qkv, grid=GRID), plain_attention(*qkv, together(h, w)))


@pytest.mark.parametrize("window", [(1, 2, 3), (2, 5, 4), (3, 1, 1), (2, 3, 100)])
@pytest.mark.parametrize("offset", [(0, 0, 0), (1, 2, 1), (0, 1, 3)])
def test_windows(qkv, window, offset):
    offset = tuple(o % n for o, n in zip(offset, window, strict=True))
    number = [(c - o).div(n, rounding_mode="floor") for c, o, n in zip(CELLS, offset, window, strict=True)]
    found = over_windows(plain_attention, *qkv, grid=GRID, window=window, offset=offset)
    assert torch.allclose(found, plain_attention(*qkv, together(*number)))


def test_windows_that_hold_the_grid_are_none_and_axes_that_are_whole_are_not_shifted(qkv):
    for shifted in (False, True):
        assert windows_of(GRID, (0, 0, 0), shifted) is windows_of(GRID, (3, 5, 7), shifted) is None
        assert windows_of(GRID, (9, 0, 8), shifted) is None
    t, _, w = CELLS
    for shifted, start in ((False, 0), (True, 2)):
        found = windows_of(GRID, (0, 8, 4), shifted)(plain_attention, *qkv)
        number = (w - start).div(4, rounding_mode="floor")
        assert torch.allclose(found, plain_attention(*qkv, together(number)))
