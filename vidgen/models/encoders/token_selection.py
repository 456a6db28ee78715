"""Pruning before the first block: a trained encoder reads only the tokens, frames or tubes that change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.bounds import Choice, Range, check_fields
from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.reduced import ReducedEncoder
from vidgen.models.encoders.video_vit import VideoViT, to_patches

UNITS = {"token": (), "frame": (2, 3), "tube": (1,)}  # axes of the scores (b, t, h, w) that go together
CRITERIA = ("change", "random")


def token_change(video: Float[Tensor, "b c T H W"], patch: Grid) -> Float[Tensor, "b t h w"]:
    """Return how much each token of clips differs from the one before it at its place, in mean absolute difference; the
    first from the one after it, and of a single one zero."""
    t, h, w = (n // p for n, p in zip(video.shape[2:], patch, strict=True))
    if t == 1:
        return torch.zeros(len(video), t, h, w, device=video.device)
    tokens = to_patches(video.float(), patch).reshape(len(video), t, h, w, -1)
    change = tokens.diff(dim=1).abs().mean(-1)
    return torch.cat([change[:, :1], change], dim=1)


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """Which share `keep` of the tokens is read, in whole `unit`s: token by token, frames of tubes, or the same places
    of all frames ("tube"). By `criterion`: those that change most, or, to hold these against, "random" ones."""

    keep: Annotated[float, Range(0.0, 1.0, above=True)] = 0.5
    unit: Annotated[str, Choice(tuple(UNITS))] = "token"
    criterion: Annotated[str, Choice(CRITERIA)] = "change"

    def __post_init__(self) -> None:
        check_fields(self)

    def count(self, grid: Grid) -> int:
        """Return how many tokens of a grid are read: whole units, and one at least."""
        t, h, w = grid
        units = {"token": t * h * w, "frame": t, "tube": h * w}[self.unit]
        return max(1, round(self.keep * units)) * (t * h * w // units)


class SelectingEncoder(ReducedEncoder[SelectionConfig]):
    """A trained `VideoViT` that reads a part of the tokens: as MAE's encoder reads what is not hidden, and, by frames,
    as frames are sampled. Where none was read maps have the mean of those that were, so that a map's mean is theirs.

    Random choice is the same for all clips. The config is a `SelectionConfig`. Raises VidgenError for change in
    indices, which are names.
    """

    def __init__(self, encoder: VideoViT, reduction: SelectionConfig) -> None:
        super().__init__(encoder, reduction)
        if encoder.config.codebook_size and reduction.criterion == "change":
            raise VidgenError("how much indices change says nothing: choose random, or merge")

    def tokens_left(self, tokens: int) -> list[int]:
        """Return how many of so many tokens each block computes, for clips of the encoder's frames."""
        grid = tuple(n // p for n, p in zip(self.encoder.config.clip, self.encoder.config.patch, strict=True))
        frames = tokens // (grid[1] * grid[2])
        return [self.reduction.count((frames, *grid[1:]))] * len(self.encoder.blocks)

    def choose(self, video: Float[Tensor, "b c T H W"]) -> Int[Tensor, "b k"]:
        """Return the places of the tokens that are read, rising."""
        grid, config = self.encoder.grid_of(video), self.reduction
        if config.criterion == "change":
            scores = token_change(video, self.encoder.config.patch)
        else:
            scores = torch.rand(1, *grid, generator=torch.Generator().manual_seed(0)).to(video.device)
        if axes := UNITS[config.unit]:
            scores = scores.mean(axes, keepdim=True)
        # A stable order: of equal scores, such as those of one frame, the first are read.
        order = scores.expand(len(video), *grid).flatten(1).argsort(dim=1, descending=True, stable=True)
        return order[:, : config.count(grid)].sort(dim=1).values

    def iter_features(self, video: Tensor) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every block."""
        grid = self.encoder.grid_of(video)
        for i, stream in enumerate(self.encoder.iter_tokens(video, self.choose(video))):
            if i:
                yield f"blocks.{i - 1}", stream.to_map(grid)


def select(encoder: VideoViT, keep: float, unit: str, criterion: str = "change") -> SelectingEncoder:
    """Return an encoder that reads this share of its tokens."""
    return SelectingEncoder(encoder, SelectionConfig(keep=keep, unit=unit, criterion=criterion))
