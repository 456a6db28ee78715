"""Grids of feature cells: which frames and which pixels a cell is of, and features and labels of cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.data.shapes.labels import ClipLabels
from vidgen.errors import VidgenError
from vidgen.representations.baselines import RANDOM
from vidgen.representations.extractor import FeatureExtractor, parse_key

OF_GRIDS = PIXELS, STILL, EXACT, BLOCKS = "raw_pixels", "first_frame", "exact", "blocks"
HALF = 0.5  # from which share of it on a cell is an object's
PARTS = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """`shape` (rows, columns) of cells of `stride` pixels each over clips of `size` (height, width), those at the lower
    right perhaps reaching beyond; and `frames`, for every feature frame the middle one of the video frames that it is
    of."""

    frames: tuple[int, ...]
    shape: tuple[int, int]
    stride: tuple[int, int]
    size: tuple[int, int]

    def to_cells(self, pixels: Float[Tensor, "*n H W"]) -> Float[Tensor, "*n h w"]:
        """Return the mean over each cell."""
        padded = self._pad(pixels)
        h, w = self.shape
        return padded.unflatten(-1, (w, -1)).unflatten(-3, (h, -1)).mean((-3, -1))

    def to_pixels(self, cells: Float[Tensor, "n h w"]) -> Float[Tensor, "n H W"]:
        """Return values of pixels, interpolated linearly between the middles of cells."""
        size = [n * step for n, step in zip(self.shape, self.stride, strict=True)]
        pixels = F.interpolate(cells[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
        return pixels[:, : self.size[0], : self.size[1]]

    def patches(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b t h w c"]:
        """Return the grid's frames themselves: all pixels of a cell, one after the other."""
        h, w = self.shape
        frames = self._pad(video[:, :, list(self.frames)])
        return rearrange(frames, "b c t (h p) (w q) -> b t h w (p q c)", h=h, w=w)

    def _pad(self, pixels: Tensor) -> Tensor:
        """Return the pixels with the edge repeated until every cell is whole."""
        for axis in (-2, -1):
            n = self.size[axis]
            if short := self.shape[axis] * self.stride[axis] - n:
                edge = pixels.narrow(axis, n - 1, 1)
                pixels = torch.cat([pixels, edge.repeat_interleave(short, axis)], axis)
        return pixels


@dataclass(frozen=True, kw_only=True)
class FeatureMaps:
    """Unpooled features of a batch of clips, and where their cells lie."""

    x: Float[Tensor, "b t h w c"]
    grid: Grid


Batch = tuple[dict[str, FeatureMaps], list[ClipLabels]]  # maps by key, and what the clips show
ReadPart = Callable[[str], Iterator[Batch]]  # the batches of one of `PARTS`


def read_maps(
    extractors: Mapping[str, FeatureExtractor],
    video: Float[Tensor, "b 3 T H W"],
    ids: Sequence[int | str],
    prompts: Sequence[str] | None = None,
) -> dict[str, FeatureMaps]:
    """Return maps by key of every extractor (its pool must be "none"), prefixed by its own key; and of raw pixels, cut
    into the same cells, for each grid that occurs.

    prompts: one a clip, in place of the extractor's. Raises VidgenError, naming the clip, for features that are not
    finite.
    """
    maps: dict[str, FeatureMaps] = {}
    for prefix, fx in extractors.items():
        out = fx(video, ids, prompts=prompts)
        strides = {info.name: info.reduction[1:] for info in fx.feature_info}
        for key, x in out.features.items():
            for name, finite in zip(ids, torch.isfinite(x).flatten(1).all(1).tolist(), strict=True):
                if not finite:
                    raise VidgenError(f"features {prefix}{key} of clip {name!r} are not finite; leave the layer out")
            frames, size = middle_frames(out.times[key][0].long()), (video.shape[3], video.shape[4])
            shape, stride = (x.shape[2], x.shape[3]), strides[parse_key(key)[0]]
            maps[prefix + key] = FeatureMaps(x=x.cpu(), grid=Grid(frames=frames, shape=shape, stride=stride, size=size))
    for grid in dict.fromkeys(one.grid for one in maps.values()):
        maps[grid_key(PIXELS, grid)] = FeatureMaps(x=grid.patches(video), grid=grid)
    return maps


@dataclass(frozen=True, kw_only=True)
class CollectedPart:
    """Features of all clips of a part by key, with their grids, and true labels by grid."""

    x: dict[str, Float[Tensor, "m t h w c"]]
    grids: dict[str, Grid]
    truth: dict[Grid, tuple[np.ndarray, ...]]


def collect(batches: Iterable[Batch], truth_of: Callable[[Sequence[ClipLabels], Grid], tuple[np.ndarray, ...]],
            transform: Callable[[str, Tensor], Tensor] = lambda key, x: x) -> CollectedPart:  # fmt: skip
    """Return the features of batches, each after `transform(key, x)`, and their true labels (arrays m ...)."""
    x: dict[str, list[Tensor]] = {}
    truth: dict[Grid, list[tuple[np.ndarray, ...]]] = {}
    grids: dict[str, Grid] = {}
    for maps, labels in batches:
        for key, one in maps.items():
            x.setdefault(key, []).append(transform(key, one.x))
            grids[key] = one.grid
        for grid in dict.fromkeys(one.grid for one in maps.values()):
            truth.setdefault(grid, []).append(truth_of(labels, grid))
    return CollectedPart(
        x={key: torch.cat(parts) for key, parts in x.items()}, grids=grids,
        truth={grid: tuple(map(np.concatenate, zip(*parts, strict=True))) for grid, parts in truth.items()},
    )  # fmt: skip


def inside(shares: Float[np.ndarray, "b t h w o"], limit: float = HALF) -> Bool[np.ndarray, "b t h w o"]:
    """Return the cells of which such a share is an object's, or the largest of the frame where none has it."""
    return shares >= np.minimum(limit, shares.max((2, 3), keepdims=True))


def middle_frames(last: Int[Tensor, " t"]) -> tuple[int, ...]:
    """Return the middle one of every feature frame's video frames, where they end with the video frames `last`."""
    ends = last.tolist()
    starts = [0, *(end + 1 for end in ends[:-1])]
    return tuple(min((start + end) // 2, end) for start, end in zip(starts, ends, strict=True))


def grid_key(name: str, grid: Grid) -> str:
    """Return the key of what is only a matter of the grid, such as "raw_pixels/8x8"."""
    return f"{name}/{grid.stride[0]}x{grid.stride[1]}"


def parse_grid_key(key: str) -> tuple[str, float | None]:
    """Return layer and noise level of any key of `read_maps`; of what is only a matter of the grid, its name."""
    name = key.partition("/")[0]
    return (name, None) if name in OF_GRIDS else parse_key(key)


def is_baseline(key: str) -> bool:
    """Return whether a key is of random weights, or only a matter of the grid."""
    return key.startswith((RANDOM, *OF_GRIDS))
