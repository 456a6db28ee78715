"""Which tokens of a clip are hidden. A mask is a score of every place, and the highest ones are hidden: so every clip
of a batch has the same number of tokens left, and any ratio is met exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.bounds import Choice, Range, check_fields
from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid
from vidgen.models.encoders.memory_consolidation import cluster_means
from vidgen.models.encoders.token_selection import token_change
from vidgen.tokenizers.keyframes.block_matching import match_blocks

TIE = 1e-6  # of scores that are equal, which chance orders
Scores = Float[Tensor, "b t h w"]


class MaskDraw(NamedTuple):
    """What a mask is drawn for: `batch` clips of tokens `grid`, the generator of all chance, and the clips themselves
    (None where no mask looks at them) with their patches (t, h, w)."""

    batch: int
    grid: Grid
    generator: torch.Generator
    video: Float[Tensor, "b c T H W"] | None = None
    patch: Grid = (1, 1, 1)

    def rand(self, *shape: int) -> Tensor:
        """Draw uniform numbers."""
        return torch.rand(self.batch, *shape, generator=self.generator)


def random_scores(draw: MaskDraw) -> Scores:
    """Hide any tokens (Feichtenhofer et al. 2022, MAE-ST, section 3: agnostic to space and time)."""
    return draw.rand(*draw.grid)


def tube_scores(draw: MaskDraw) -> Scores:
    """Hide the same places of all frames (Tong et al. 2022, VideoMAE, section 3.3)."""
    t, h, w = draw.grid
    return draw.rand(1, h, w).expand(-1, t, -1, -1)


def frame_scores(draw: MaskDraw) -> Scores:
    """Hide whole frames."""
    t, h, w = draw.grid
    return draw.rand(t, 1, 1).expand(-1, -1, h, w)


def future_scores(draw: MaskDraw) -> Scores:
    """Hide the last frames: what is predicted is the future."""
    t, h, w = draw.grid
    return torch.arange(t, dtype=torch.float32)[None, :, None, None].expand(draw.batch, -1, h, w)


def block_scores(draw: MaskDraw, *, blocks: int = 8, scale: float = 0.15, aspect: float = 1.5) -> Scores:
    """Hide the union of `blocks` rectangles through all frames, each `scale` of a frame, its sides' ratio at most
    `aspect` (Bardes et al. 2024, V-JEPA, section 3.2: multi-block); chance fills the ratio where they overlap."""
    t, h, w = draw.grid
    y, x = torch.arange(h)[None, :, None], torch.arange(w)[None, None, :]
    covered = torch.zeros(draw.batch, h, w)
    for _ in range(blocks):
        ratio = aspect ** (2.0 * draw.rand() - 1.0)
        height = (scale * h * w / ratio).sqrt().round().clamp(1, h)
        width = (scale * h * w * ratio).sqrt().round().clamp(1, w)
        top = (draw.rand() * (h - height + 1)).floor()
        left = (draw.rand() * (w - width + 1)).floor()
        inside = (y >= top[:, None, None]) & (y < (top + height)[:, None, None])
        inside = inside & (x >= left[:, None, None]) & (x < (left + width)[:, None, None])
        covered = torch.maximum(covered, inside.float())
    return (covered + 0.5 * draw.rand(h, w))[:, None].expand(-1, t, -1, -1)


def check_video(draw: MaskDraw) -> Float[Tensor, "b c T H W"]:
    """Return the clips. Raises VidgenError where there are none."""
    if draw.video is None:
        raise VidgenError("this mask looks at the clip, and there is none")
    return draw.video.float()


def weighted_scores(draw: MaskDraw, weights: Scores) -> Scores:
    """Return scores whose highest are a draw without replacement, by these weights (Gumbel top-k: Kool et al. 2019)."""
    gumbel = -(-draw.rand(*draw.grid).clamp(1e-9, 1 - 1e-7).log()).log()
    return weights.clamp(min=1e-9).log() + gumbel


def motion_scores(draw: MaskDraw, *, floor: float = 0.05) -> Scores:
    """Hide what moves, by how much it changes: the target is where something happens (Fan et al. 2023, MGM, with
    differences for the codec's motion vectors). `floor`, of the largest change, is what still places weigh."""
    change = token_change(check_video(draw), draw.patch).cpu()
    return weighted_scores(draw, change + floor * change.amax((1, 2, 3), keepdim=True) + 1e-6)


def redundancy_scores(draw: MaskDraw, *, floor: float = 0.05) -> Scores:
    """Hide what repeats the frame before, so that tokens rich in motion are seen (Hwang et al. 2024, EVEREST, section
    3.1, on pixels)."""
    return -motion_scores(draw, floor=floor)


def flow_scores(draw: MaskDraw) -> Scores:
    """Hide by a tube mask that moves with what it covers: a patch has the score of the place in the first frame that it
    comes from (Huang et al. 2023, MGMAE, section 3.3), found by block matching of some 10 pixels' reach.

    Raises VidgenError for patches that are no even squares.
    """
    (t, h, w), (depth, side, other) = draw.grid, draw.patch
    if side != other or side % 2:
        raise VidgenError(f"mask flow matches square patches of an even side, not {side}x{other}; choose another mask")
    video = check_video(draw)
    fields = match_blocks(video[:, :, 0], video[:, :, depth::depth], side)  # (x, y) in pixels
    cells = (fields / side).round().long().cpu()
    cells = torch.cat([torch.zeros_like(cells[:, :, :1]), cells], dim=2)
    rows = (torch.arange(h)[:, None] + cells[:, 1]).clamp(0, h - 1)
    columns = (torch.arange(w) + cells[:, 0]).clamp(0, w - 1)
    first = draw.rand(h * w)
    return first.gather(1, (rows * w + columns).flatten(1)).reshape(draw.batch, t, h, w)


def asymmetric_scores(draw: MaskDraw) -> Scores:
    """Show the first frame whole, and hide any tokens of the others (Gupta et al. 2023, SiamMAE, section 3)."""
    scores = draw.rand(*draw.grid)
    scores[:, 0] -= 2.0
    return scores


def unit_spread(x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """Return rows less their mean, over their root mean squared distance from it; rows that are all the same are 0."""
    x = x - x.mean(1, keepdim=True)
    return x / x.square().sum(2, keepdim=True).mean(1, keepdim=True).sqrt().clamp(min=1e-6)


def find_regions(draw: MaskDraw, regions: int, place: float) -> Int[Tensor, "b n"]:
    """Return the region of every token of clips: the cluster of its mean colour and its place, `place` times as heavy,
    among those of all frames, each in units of its spread. Time is none of them: a region goes where its colour goes.
    """
    _, h, w = draw.grid
    colours = F.avg_pool3d(check_video(draw), draw.patch).flatten(2).transpose(1, 2).cpu()
    steps = torch.arange(h * w, dtype=torch.float32).repeat(1, draw.grid[0])
    places = torch.stack([steps.div(w).floor(), steps % w], dim=2)
    points = torch.cat([unit_spread(colours), place * unit_spread(places).expand(len(colours), -1, -1)], dim=2)
    return torch.cdist(points, cluster_means(points, regions).x).argmin(dim=2)


def region_scores(draw: MaskDraw, *, regions: int = 8, place: float = 0.5) -> Scores:
    """Hide regions whole, one after the other in an order that is drawn, and of the last one as many tokens as the
    ratio needs (Cai et al. 2023, MARLIN, section 3, whose regions are parts of a face).

    They are clusters by colour and place of all frames at once: what moves is hidden in all of them, where a tube
    through its first place would show it later. Raises VidgenError for fewer regions than two, or more than tokens.
    """
    t, h, w = draw.grid
    if not (2 <= regions <= t * h * w and 0.0 <= place < float("inf")):
        raise VidgenError(
            f"mask region: regions={regions} and place={place}; give from 2 to {t * h * w} regions, the clip's tokens, "
            "and a place of 0 or more"
        )
    order = draw.rand(regions).argsort(dim=1).float()
    return order.gather(1, find_regions(draw, regions, place)).reshape(-1, t, h, w)


MASKS: dict[str, Callable[..., Scores]] = {
    "random": random_scores,
    "tube": tube_scores,
    "frame": frame_scores,
    "future": future_scores,
    "block": block_scores,
    "motion": motion_scores,
    "flow": flow_scores,
    "redundancy": redundancy_scores,
    "asymmetric": asymmetric_scores,
    "region": region_scores,
}


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """A mask by its `kind`, of MASKS, with that one's `settings`, and the `ratio` of tokens that it hides; of these a
    share `asked` is predicted (below 1: dual masking, Wang et al. 2023, VideoMAE V2, section 3.1)."""

    kind: Annotated[str, Choice(tuple(MASKS))] = "tube"
    ratio: Annotated[float, Range(0.0, 1.0)] = 0.9
    asked: Annotated[float, Range(0.0, 1.0, above=True)] = 1.0
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)

    def counts(self, tokens: int) -> tuple[int, int]:
        """Return how many of so many tokens are hidden, and how many of these are predicted. Raises VidgenError where
        it hides all of them or none."""
        hidden = round(self.ratio * tokens)
        if not 0 < hidden < tokens:
            raise VidgenError(
                f"a mask with ratio={self.ratio:g} hides {hidden} of {tokens} tokens; some must be hidden and some seen"
            )
        return hidden, max(1, round(self.asked * hidden))


class Mask(NamedTuple):
    """Places of a clip's tokens: those that are seen, and those that are predicted; each row rising."""

    keep: Int[Tensor, "b k"]
    asked: Int[Tensor, "b m"]


def draw_mask(config: MaskConfig, draw: MaskDraw) -> Mask:
    """Draw a mask of each clip. Raises VidgenError for a ratio that hides all or nothing, and settings that are not
    the mask's."""
    t, h, w = draw.grid
    hidden, asked = config.counts(t * h * w)
    try:
        scores = MASKS[config.kind](draw, **config.settings)
    except TypeError as error:
        raise VidgenError(f"mask {config.kind}: settings {config.settings} are not its own ({error})") from None
    order = (scores + TIE * draw.rand(*draw.grid)).flatten(1).argsort(dim=1, descending=True)
    gone = order[:, :hidden]
    if asked < hidden:
        chosen = draw.rand(hidden).argsort(dim=1)[:, :asked]
        asked_places = gone.gather(1, chosen)
    else:
        asked_places = gone
    return Mask(order[:, hidden:].sort(dim=1).values, asked_places.sort(dim=1).values)
