"""Invariance curves: how far features of a clip stay the same as it is moved, hidden, turned, zoomed or slowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vidgen.metrics.intervals import Mean, mean_interval, wilson_interval

Video = Float[Tensor, "b 3 T H W"]
Features = dict[str, Float[Tensor, "b c"]]


@dataclass(frozen=True, kw_only=True)
class Transformation:
    """A change of clips by degrees: `grades`, from small to large, in `unit`; apply(video, grade, generator)."""

    grades: tuple[float, ...]
    unit: str
    apply: Callable[[Video, float, torch.Generator], Video]


@dataclass(frozen=True, kw_only=True)
class InvariancePoint:
    """Features of a layer, of clips changed to a degree.

    cosine: of features before and after, both less the mean over clips before: 1 where nothing changes, and about 0
    for two clips that have nothing to do with each other. nearest: share of changed clips that are nearer to their own
    original than to any other.
    """

    layer: str
    transformation: str
    grade: float
    unit: str
    cosine: Mean
    nearest: Mean


def warp(video: Video, matrix: Float[Tensor, "b 2 3"]) -> Video:
    """Return clips in which what was at matrix @ (x, y, 1) is at (x, y): pixels from the middle of the frame, in halves
    of its shorter side. Beyond the frame its edge goes on."""
    b, _, frames, height, width = video.shape
    flat = video.transpose(1, 2).flatten(0, 1)  # b*T 3 H W
    side = min(height, width)
    scale = video.new_tensor([side / width, side / height])  # to halves of each side, the grid's own unit
    matrix = matrix.to(video)
    square = matrix[:, :, :2] * (scale[:, None] / scale[None, :])
    theta = torch.cat([square, matrix[:, :, 2:] * scale[:, None]], dim=-1)
    grid = F.affine_grid(theta.repeat_interleave(frames, dim=0), list(flat.shape), align_corners=False)
    out = F.grid_sample(flat, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return out.unflatten(0, (b, frames)).transpose(1, 2)


def _linear(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Float[Tensor, "n 2 3"]:
    zero = torch.zeros_like(a)
    return torch.stack([torch.stack([a, b, zero], dim=-1), torch.stack([c, d, zero], dim=-1)], dim=1)


def translate(video: Video, grade: float, generator: torch.Generator) -> Video:
    """Move clips by `grade` of the shorter side, each in a direction of its own."""
    angle = 2 * torch.pi * torch.rand(len(video), generator=generator)
    matrix = torch.eye(2, 3).repeat(len(video), 1, 1)
    matrix[:, :, 2] = 2 * grade * torch.stack([angle.cos(), angle.sin()], dim=-1)
    return warp(video, matrix)


def rotate(video: Video, grade: float, generator: torch.Generator) -> Video:
    """Turn clips by `grade` degrees about the middle, each this way or the other."""
    way = 2.0 * torch.randint(2, (len(video),), generator=generator) - 1
    angle = torch.deg2rad(way * grade)
    return warp(video, _linear(angle.cos(), -angle.sin(), angle.sin(), angle.cos()))


def zoom(video: Video, grade: float, generator: torch.Generator) -> Video:
    """Show clips `grade` times as large."""
    size, zero = torch.full((len(video),), 1 / grade), torch.zeros(len(video))
    return warp(video, _linear(size, zero, zero, size))


def occlude(video: Video, grade: float, generator: torch.Generator) -> Video:
    """Hide a square of `grade` of the frame's area, of the shape of the frame, grey, at a place of each clip's own."""
    height, width = video.shape[-2:]
    tall, wide = (max(round(side * grade**0.5), 1) if grade else 0 for side in (height, width))
    out = video.clone()
    for clip in out:
        y = int(torch.randint(height - tall + 1, (1,), generator=generator))
        x = int(torch.randint(width - wide + 1, (1,), generator=generator))
        clip[:, :, y : y + tall, x : x + wide] = 0.0
    return out


def slow_frames(video: Video, grade: float, generator: torch.Generator) -> Video:
    """Keep every grade-th frame, and hold it until the next: so many times fewer frames a second."""
    step = round(grade)
    return video[:, :, torch.arange(video.shape[2]) // step * step]


TRANSFORMATIONS: dict[str, Transformation] = {
    "translation": Transformation(grades=(0.02, 0.05, 0.1, 0.2, 0.4), unit="of the side", apply=translate),
    "occlusion": Transformation(grades=(0.05, 0.1, 0.2, 0.4, 0.6), unit="of the frame", apply=occlude),
    "rotation": Transformation(grades=(5, 15, 30, 60, 90), unit="degrees", apply=rotate),
    "zoom": Transformation(grades=(1.1, 1.25, 1.5, 2.0, 3.0), unit="times", apply=zoom),
    "frame rate": Transformation(grades=(2, 3, 4, 8), unit="times fewer", apply=slow_frames),
}


def measure_invariance(
    extract: Callable[[Video], Mapping[str, Float[Tensor, "b c"]]],
    video: Video,
    transformations: Sequence[str] = tuple(TRANSFORMATIONS),
    *,
    batch_size: int = 8,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[InvariancePoint]:
    """Return a point for each layer that `extract` names, transformation and grade (after Purushwalkam & Gupta 2020,
    which count units that fire; here whole vectors are compared).

    Raises ValueError for fewer than two clips, or an unknown transformation.
    """
    if unknown := [name for name in transformations if name not in TRANSFORMATIONS]:
        raise ValueError(f"transformation {unknown[0]!r} is unknown; choose some of {', '.join(TRANSFORMATIONS)}")
    if len(video) < 2:
        raise ValueError(f"invariance is measured against other clips: it needs two, got {len(video)}")
    steps = [(name, grade) for name in transformations for grade in TRANSFORMATIONS[name].grades]
    before = _extract(extract, video.split(batch_size))
    points = []
    for done, (name, grade) in enumerate(steps, 1):
        # The same places and directions at every grade: a curve is of one and the same change.
        generator = torch.Generator().manual_seed(seed)
        change = TRANSFORMATIONS[name]
        changed = (change.apply(part, grade, generator) for part in video.split(batch_size))
        after = _extract(extract, changed)
        for layer, features in after.items():
            cosine, nearest = compare(before[layer], features)
            points.append(
                InvariancePoint(
                    layer=layer, transformation=name, grade=grade, unit=change.unit, cosine=cosine, nearest=nearest
                )
            )
        if progress:
            progress(done)
    return points


def compare(before: Float[Tensor, "n c"], after: Float[Tensor, "n c"]) -> tuple[Mean, Mean]:
    """Return the mean cosine of rows, and the share of rows of `after` that are nearest to their own of `before`; both
    less the mean of `before`. A tie of nearest rows counts for none."""
    mean = before.mean(dim=0)
    cosines = F.normalize(after - mean, dim=-1) @ F.normalize(before - mean, dim=-1).T
    own = cosines.diagonal()
    others = cosines.masked_fill(torch.eye(len(cosines), dtype=torch.bool), -torch.inf).amax(dim=1)
    share = float((own > others).float().mean())
    nearest = Mean(mean=share, interval=wilson_interval(share, len(own)), n=len(own))
    return mean_interval(own.tolist(), (-1.0, 1.0)), nearest


def _extract(extract: Callable[[Video], Mapping[str, Tensor]], parts: Sequence[Video] | Iterator[Video]) -> Features:
    rows: dict[str, list[Tensor]] = {}
    for part in parts:
        with torch.no_grad():
            for layer, features in extract(part).items():
                rows.setdefault(layer, []).append(features.double().cpu())
    return {layer: torch.cat(features) for layer, features in rows.items()}
