"""Pretexts: a clip is changed, and what was done to it, or is to be seen in it, is the label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError

RATES = (1, 2, 4)
PARTS = 3  # segments whose order is told
PLACES = 4  # cells of a side, of statistics
DIRECTIONS = 8  # of motion, by its angle
COLOURS = 8  # corners of the colour cube
Clip = Float[Tensor, "c T H W"]
Labelled = tuple[Clip, tuple[int, ...]]


def below(count: int, generator: torch.Generator) -> int:
    """Draw a number below `count`."""
    return int(torch.randint(count, (1,), generator=generator))


def tell_speed(clip: Clip, generator: torch.Generator) -> Labelled:
    """Which of `RATES` a quarter of the frames is played at (Benaim et al. 2020, SpeedNet; of Wang et al. 2020, pace
    prediction, section 3.2)."""
    label = below(len(RATES), generator)
    count, rate = clip.shape[1] // RATES[-1], RATES[label]
    first = below(clip.shape[1] - (count - 1) * rate, generator)
    return clip[:, first : first + (count - 1) * rate + 1 : rate], (label,)


def tell_warp(clip: Clip, generator: torch.Generator) -> Labelled:
    """Which warp of time was done: one of `RATES`, skips at random, or forward and back (Jenni et al. 2020, Temporal
    Transformations, section 3.1)."""
    kind, (frames, count) = below(len(RATES) + 2, generator), (clip.shape[1], clip.shape[1] // RATES[-1])
    if kind < len(RATES):
        first = below(frames - (count - 1) * RATES[kind], generator)
        times = first + RATES[kind] * torch.arange(count)
    elif kind == len(RATES):
        times = torch.randperm(frames, generator=generator)[:count].sort().values
    else:
        first = below(frames - count, generator)
        half = torch.arange(-(-count // 2))
        times = first + torch.cat([half, half[: count - len(half)].flip(0)])
    return clip[:, times], (kind,)


def tell_direction(clip: Clip, generator: torch.Generator) -> Labelled:
    """Whether it runs backwards (Wei et al. 2018, arrow of time)."""
    label = below(2, generator)
    return clip.flip(1) if label else clip, (label,)


def tell_order(clip: Clip, generator: torch.Generator) -> Labelled:
    """In which order its `PARTS` parts are (Lee et al. 2017, OPN; Xu et al. 2019, clip order)."""
    orders = list(permutations(range(PARTS)))
    label = below(len(orders), generator)
    size = clip.shape[1] // PARTS
    parts = [clip[:, i * size : (i + 1) * size] for i in orders[label]]
    return torch.cat([*parts, clip[:, PARTS * size :]], dim=1), (label,)


def tell_puzzle(clip: Clip, generator: torch.Generator) -> Labelled:
    """In which order the quarters of its frames are (Kim et al. 2019, Space-Time Cubic Puzzles, in space)."""
    orders = list(permutations(range(4)))
    label = below(len(orders), generator)
    h, w = clip.shape[2] // 2, clip.shape[3] // 2
    cells = [clip[:, :, y * h : (y + 1) * h, x * w : (x + 1) * w] for y in range(2) for x in range(2)]
    cells = [cells[i] for i in orders[label]]
    moved = clip.clone()
    moved[:, :, : 2 * h, : 2 * w] = torch.cat([torch.cat(cells[:2], dim=3), torch.cat(cells[2:], dim=3)], dim=2)
    return moved, (label,)


def tell_continuity(clip: Clip, generator: torch.Generator) -> Labelled:
    """Whether half of its frames follow each other (0), or after which of them (1, ...) as many are left out (Liang et
    al. 2022, CPNet, section 3.1: is there a cut, and where)."""
    count = clip.shape[1] // 2
    label = below(count, generator)
    times = torch.arange(count)
    if label:
        times[label:] += clip.shape[1] - count
    else:
        times += below(clip.shape[1] - count + 1, generator)
    return clip[:, times], (label,)


def tell_statistics(clip: Clip, generator: torch.Generator) -> Labelled:
    """Where the largest motion is and which way, where most colours are and what colour is there most (Wang et al.
    2019, motion and appearance statistics; 2021, STS), by changes of light over cells of the clip as it is."""
    x = clip.float()
    light = x.mean(0)
    change = (light[1:] - light[:-1]).abs().mean(0)
    place = int(F.adaptive_avg_pool2d(change[None], PLACES).argmax())
    top, left = (
        n * (i // d % PLACES) // PLACES for n, i, d in zip(x.shape[2:], (place, place), (PLACES, 1), strict=True)
    )
    part = light[:, top : top + x.shape[2] // PLACES, left : left + x.shape[3] // PLACES]
    dt = part[1:] - part[:-1]
    dy, dx = torch.gradient(part[:-1], dim=(1, 2))
    flow = torch.stack([-(dt * dx).sum(), -(dt * dy).sum()])  # of the normal flow, weighed by gradients
    angle = torch.atan2(flow[1], flow[0]).item() / (2 * torch.pi) * DIRECTIONS
    spread = F.adaptive_avg_pool2d(x.square().mean(1), PLACES) - F.adaptive_avg_pool2d(x.mean(1), PLACES).square()
    varied = int(spread.sum(0).argmax())
    mean = F.adaptive_avg_pool2d(x.mean(1), PLACES).flatten(1)[:, varied]
    colour = int(((mean > 0).long() * torch.tensor([4, 2, 1], device=mean.device)).sum())
    return clip, (place, round(angle) % DIRECTIONS, varied, colour)


@dataclass(frozen=True)
class Pretext:
    """A change, the number of answers of each of its questions where the clip has `frames` frames, and the share of
    these that a view has."""

    draw: Callable[[Clip, torch.Generator], Labelled]
    answers: Callable[[int], tuple[int, ...]]
    share: int = 1


def fixed(*counts: int) -> Callable[[int], tuple[int, ...]]:
    """Return numbers of answers that do not depend on the clip."""
    return lambda frames: counts


PRETEXTS: dict[str, Pretext] = {
    "speed": Pretext(tell_speed, fixed(len(RATES)), RATES[-1]),
    "warp": Pretext(tell_warp, fixed(len(RATES) + 2), RATES[-1]),
    "direction": Pretext(tell_direction, fixed(2)),
    "order": Pretext(tell_order, fixed(6)),
    "puzzle": Pretext(tell_puzzle, fixed(24)),
    "continuity": Pretext(tell_continuity, lambda frames: (frames // 2,), 2),
    "statistics": Pretext(tell_statistics, fixed(PLACES**2, DIRECTIONS, PLACES**2, COLOURS)),
}


def draw_pretext(
    name: str, video: Float[Tensor, "b c T H W"], generator: torch.Generator
) -> tuple[Float[Tensor, "b c t H W"], Int[Tensor, "b q"]]:
    """Return changed clips, and the answers to each question. Raises VidgenError for clips that are too short."""
    pretext = PRETEXTS[name]
    if video.shape[2] < 2 * pretext.share or (name == "order" and video.shape[2] < PARTS):
        raise VidgenError(f"pretext {name} needs clips of {max(2 * pretext.share, PARTS)} frames, not {video.shape[2]}")
    seeds = torch.randint(2**62, (len(video),), generator=generator).tolist()
    pairs = [pretext.draw(clip, torch.Generator().manual_seed(s)) for clip, s in zip(video, seeds, strict=True)]
    return torch.stack([view for view, _ in pairs]), torch.tensor([labels for _, labels in pairs], device=video.device)
