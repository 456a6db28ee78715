"""Pretexts on several segments of a clip, all of one shape, that an encoder sees one by one: which is odd, how they are
ordered, which belong together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.train.views.clips import shuffle_frames
from vidgen.train.views.pretexts import RATES, Clip, below

STREAMS = 4  # segments of which one is odd
CUBES = 4  # segments of which the order is told
# One of an order and the same backwards, which a clip does not tell apart (Lee et al. 2017, OPN).
SORTS = [order for order in permutations(range(CUBES)) if order[0] < order[-1]]
Drawn = tuple[list[Clip], int]


def take(clip: Clip, count: int, rate: int, generator: torch.Generator) -> Clip:
    """Return `count` frames of a clip, every `rate`-th, from a moment that is drawn."""
    span = (count - 1) * rate
    first = below(clip.shape[1] - span, generator)
    return clip[:, first : first + span + 1 : rate]


def odd_one_out(clip: Clip, generator: torch.Generator) -> Drawn:
    """Which of `STREAMS` halves of a clip has its frames in another order (Fernando et al. 2017, O3N)."""
    label, count = below(STREAMS, generator), clip.shape[1] // 2
    segments = [take(clip, count, 1, generator) for _ in range(STREAMS)]
    segments[label] = segments[label][:, shuffle_frames(count, generator)]
    return segments, label


def two_rates(generator: torch.Generator) -> list[int]:
    """Draw two different rates of `RATES`."""
    return [RATES[i] for i in torch.randperm(len(RATES), generator=generator)[:2]]


def tell_faster(clip: Clip, generator: torch.Generator) -> Drawn:
    """Which of two quarters of a clip's frames is played faster (after Chen et al. 2021, RSPNet)."""
    rates, count = two_rates(generator), clip.shape[1] // RATES[-1]
    return [take(clip, count, rate, generator) for rate in rates], int(rates[1] > rates[0])


def match_pace(clip: Clip, generator: torch.Generator) -> Drawn:
    """Which of two segments is played as fast as the first one (Chen et al. 2021, RSPNet: relative speed
    perception)."""
    (own, other), label = two_rates(generator), below(2, generator)
    rates = [own, *((other, own) if label else (own, other))]
    return [take(clip, clip.shape[1] // RATES[-1], rate, generator) for rate in rates], label


def sort_segments(clip: Clip, generator: torch.Generator) -> Drawn:
    """In which order the parts of a clip are, either way round (Lee et al. 2017, OPN)."""
    label, count = below(len(SORTS), generator), clip.shape[1] // CUBES
    parts = [clip[:, i * count : (i + 1) * count] for i in SORTS[label]]
    return parts[:: 1 - 2 * below(2, generator)], label


def cubic_puzzle(clip: Clip, generator: torch.Generator) -> Drawn:
    """Along which of space and time four cubes lie, and in which order: a quarter of the frames of each quarter of
    their area, or each quarter of the frames at one of these places (Kim et al. 2019, Space-Time Cubic Puzzles)."""
    orders = list(permutations(range(CUBES)))
    number, in_time, fixed = below(len(orders), generator), below(2, generator), below(CUBES, generator)
    t, h, w = (n // k for n, k in zip(clip.shape[1:], (CUBES, 2, 2), strict=True))
    times = range(CUBES) if in_time else [fixed] * CUBES
    places = [fixed] * CUBES if in_time else range(CUBES)
    cubes = [
        clip[:, i * t : (i + 1) * t, j // 2 * h : (j // 2 + 1) * h, j % 2 * w : (j % 2 + 1) * w]
        for i, j in zip(times, places, strict=True)
    ]
    return [cubes[i] for i in orders[number]], number + in_time * len(orders)


def missing_section(clip: Clip, generator: torch.Generator) -> Drawn:
    """A clip without a section, and this section, as many frames each (Liang et al. 2022, CPNet: estimation of the
    missing section); there is nothing to tell of one clip."""
    count = clip.shape[1] // 2
    cut = 1 + below(count - 1, generator)
    return [torch.cat([clip[:, :cut], clip[:, cut + count : 2 * count]], dim=1), clip[:, cut : cut + count]], 0


@dataclass(frozen=True)
class SegmentPretext:
    """What draws `count` segments and the answer, one of `answers`; the share of a clip's frames that a segment has,
    and the head that tells, of vidgen.train.tasks.ssl.segments."""

    draw: Callable[[Clip, torch.Generator], Drawn]
    count: int
    answers: int
    share: int
    head: str


SEGMENT_PRETEXTS: dict[str, SegmentPretext] = {
    "odd_one_out": SegmentPretext(odd_one_out, STREAMS, STREAMS, 2, "pick"),
    "faster": SegmentPretext(tell_faster, 2, 2, RATES[-1], "pick"),
    "match_pace": SegmentPretext(match_pace, 3, 2, RATES[-1], "match"),
    "sort": SegmentPretext(sort_segments, CUBES, len(SORTS), CUBES, "pairwise"),
    "cubic_puzzle": SegmentPretext(cubic_puzzle, CUBES, 2 * 24, CUBES, "join"),
    "missing_section": SegmentPretext(missing_section, 2, 1, 2, "contrast"),
}


def draw_segments(
    name: str, video: Float[Tensor, "b c T H W"], generator: torch.Generator
) -> tuple[Float[Tensor, "b s c t h w"], Int[Tensor, " b"]]:
    """Return segments of each clip, and the answers. Raises VidgenError for clips of too few frames; one clip's draws
    do not depend on the others'."""
    pretext = SEGMENT_PRETEXTS[name]
    least = 2 * pretext.share
    if video.shape[2] < least:
        raise VidgenError(f"pretext {name} needs clips of {least} frames, not {video.shape[2]}")
    seeds = torch.randint(2**62, (len(video),), generator=generator).tolist()
    pairs = [pretext.draw(clip, torch.Generator().manual_seed(s)) for clip, s in zip(video, seeds, strict=True)]
    rows = [torch.stack(segments) for segments, _ in pairs]
    return torch.stack(rows), torch.tensor([label for _, label in pairs], device=video.device)
